/* y = a + b, f32[4]: cheap enough to keep the interpreter lock. */
#include "abi.h"

static const int64_t dims[] = {4};
static const vt_arg inputs[] = {{"a", 1, 4, 1, 0, dims}, {"b", 1, 4, 1, 0, dims}};
static const vt_arg outputs[] = {{"y", 1, 4, 1, 0, 0}};

static vt_status check(int64_t *d) { (void)d; return VT_OK; }
static void shapes(const int64_t *d, int64_t *out) { (void)d; out[0] = 4; }
static int64_t arena_bytes(const int64_t *d) { (void)d; return 0; }
static void run(vt_run *r) {
    const float *a = (const float *)r->inputs[0], *b = (const float *)r->inputs[1];
    float *y = (float *)r->outputs[0];
    for (int i = 0; i < 4; i++) y[i] = a[i] + b[i];
}

const vt_model vt_plan = {
    .abi = VT_ABI_VERSION, .n_inputs = 2, .n_outputs = 1, .n_out_dims = 1, .quick = 1,
    .inputs = inputs, .outputs = outputs,
    .check = check, .shapes = shapes, .arena_bytes = arena_bytes, .run = run,
};
