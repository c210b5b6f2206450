/* y[N] = table[index[N]], table i64[5] in the weights; then z[N] = y / divisor (a 0-d i32). */
#include "abi.h"

static const int64_t index_dims[] = {-1};
static const vt_arg inputs[] = {{"index", 8, 8, 1, 0, index_dims}, {"divisor", 9, 4, 0, 0, 0}};
static const vt_arg outputs[] = {{"y", 8, 8, 1, 0, 0}, {"z", 8, 8, 1, 0, 0}};

static vt_status check(int64_t *d) { (void)d; return VT_OK; }
static void shapes(const int64_t *d, int64_t *out) { out[0] = d[0], out[1] = d[0]; }
static int64_t arena_bytes(const int64_t *d) { (void)d; return 64; }
static void run(vt_run *r) {
    const int64_t *index = (const int64_t *)r->inputs[0], *table = (const int64_t *)r->weights;
    int32_t divisor = *(const int32_t *)r->inputs[1];
    int64_t *y = (int64_t *)r->outputs[0], *z = (int64_t *)r->outputs[1];
    for (int64_t i = 0; i < r->dims[0]; i++) {
        int64_t at = index[i] < 0 ? index[i] + 5 : index[i];
        if (at < 0 || at >= 5) {
            r->status = ((vt_status)VT_ERR_INDEX << 32) | 0;
            return;
        }
        y[i] = table[at];
    }
    if (!divisor) {
        r->status = ((vt_status)VT_ERR_DIVIDE << 32) | 1;
        return;
    }
    for (int64_t i = 0; i < r->dims[0]; i++) z[i] = y[i] / divisor;
}

const vt_model vt_plan = {
    .abi = VT_ABI_VERSION, .n_inputs = 2, .n_outputs = 2, .n_bound = 1, .n_dims = 1, .n_out_dims = 2,
    .weights_bytes = 40, .inputs = inputs, .outputs = outputs,
    .check = check, .shapes = shapes, .arena_bytes = arena_bytes, .run = run,
};
