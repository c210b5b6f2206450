/* where[K] = the positions of x[N] that are true (K known after the run); n[1] = N. x of 13 elements
 * is refused as if memory had run out. */
#include "abi.h"

static const int64_t x_dims[] = {-1};
static const vt_arg inputs[] = {{"x", 18, 1, 1, 0, x_dims}};
static const vt_arg outputs[] = {{"where", 8, 8, 1, 1, 0}, {"n", 8, 8, 1, 0, 0}};

static vt_status check(int64_t *d) { (void)d; return VT_OK; }
static void shapes(const int64_t *d, int64_t *out) { (void)d; out[0] = 0, out[1] = 1; }
static int64_t arena_bytes(const int64_t *d) { (void)d; return 0; }
static void run(vt_run *r) {
    const uint8_t *x = (const uint8_t *)r->inputs[0];
    int64_t n = r->dims[0], found = 0;
    int64_t *where = r->late[0] = n == 13 ? 0 : r->host->alloc(64, (size_t)n * 8);
    if (!where) {
        r->status = (vt_status)VT_ERR_MEMORY << 32;
        return;
    }
    for (int64_t i = 0; i < n; i++)
        if (x[i]) where[found++] = i;
    r->outputs[0] = (char *)where;
    r->out_shapes[0] = found;
    *(int64_t *)r->outputs[1] = n;
}

const vt_model vt_plan = {
    .abi = VT_ABI_VERSION, .n_inputs = 1, .n_outputs = 2, .n_bound = 1, .n_dims = 1, .n_late = 1,
    .n_out_dims = 2, .inputs = inputs, .outputs = outputs,
    .check = check, .shapes = shapes, .arena_bytes = arena_bytes, .run = run,
};
