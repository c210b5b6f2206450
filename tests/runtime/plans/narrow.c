/* Copies of one array of each type that NumPy lacks: bf16[N], f8e4m3fn[N], i4[N]; and slow(f32[N]),
 * a loop long enough for runs to overlap. */
#include "abi.h"

static const int64_t dims[] = {-1};
static const vt_arg inputs[] = {
    {"b", 3, 2, 1, 0, dims}, {"f", 4, 1, 1, 0, dims}, {"i", 16, 1, 1, 0, dims}, {"x", 1, 4, 1, 0, dims}};
static const vt_arg outputs[] = {
    {"b_out", 3, 2, 1, 0, 0}, {"f_out", 4, 1, 1, 0, 0}, {"i_out", 16, 1, 1, 0, 0}, {"x_out", 1, 4, 1, 0, 0}};

static vt_status check(int64_t *d) { (void)d; return VT_OK; }
static void shapes(const int64_t *d, int64_t *out) { out[0] = out[1] = out[2] = out[3] = d[0]; }
static int64_t arena_bytes(const int64_t *d) { return d[0] * 4; }
static void run(vt_run *r) {
    static const int64_t sizes[] = {2, 1, 1, 4};
    for (int k = 0; k < 3; k++) __builtin_memcpy(r->outputs[k], r->inputs[k], (size_t)(r->dims[0] * sizes[k]));
    float *kept = (float *)r->arena, *y = (float *)r->outputs[3];
    const float *x = (const float *)r->inputs[3];
    for (int64_t i = 0; i < r->dims[0]; i++) kept[i] = x[i];
    for (int repeat = 0; repeat < 200; repeat++)
        for (int64_t i = 0; i < r->dims[0]; i++) kept[i] = kept[i] * 0.5f + x[i] * 0.5f;
    for (int64_t i = 0; i < r->dims[0]; i++) y[i] = kept[i];
}

const vt_model vt_plan = {
    .abi = VT_ABI_VERSION, .n_inputs = 4, .n_outputs = 4, .n_bound = 1, .n_dims = 1, .n_out_dims = 4,
    .inputs = inputs, .outputs = outputs,
    .check = check, .shapes = shapes, .arena_bytes = arena_bytes, .run = run,
};
