/* y[512] = W[512, 256] x[256], W f32 in the weights; 64 tasks of 8 rows, partial sums in scratch. */
#include "abi.h"

enum { ROWS = 512, COLUMNS = 256, BLOCK = 8 };
static const int64_t x_dims[] = {COLUMNS};
static const vt_arg inputs[] = {{"x", 1, 4, 1, 0, x_dims}};
static const vt_arg outputs[] = {{"y", 1, 4, 1, 0, 0}};

static vt_status check(int64_t *d) { (void)d; return VT_OK; }
static void shapes(const int64_t *d, int64_t *out) { (void)d; out[0] = ROWS; }
static int64_t arena_bytes(const int64_t *d) { (void)d; return 0; }

static void rows(char *const *bufs, const int64_t *d, int64_t task, char *scratch) {
    (void)d;
    const float *x = (const float *)bufs[0], *w = (const float *)bufs[1];
    float *y = (float *)bufs[2], *partial = (float *)scratch;
    for (int64_t r = task * BLOCK; r < (task + 1) * BLOCK; r++) {
        for (int j = 0; j < 16; j++) partial[j] = 0;
        for (int i = 0; i < COLUMNS; i += 16)
            for (int j = 0; j < 16; j++) partial[j] += w[r * COLUMNS + i + j] * x[i + j];
        float sum = 0;
        for (int j = 0; j < 16; j++) sum += partial[j];
        y[r] = sum;
    }
}
static void run(vt_run *r) {
    char *bufs[] = {r->inputs[0], (char *)r->weights, r->outputs[0]};
    r->host->parallel_for(r->host->pool, rows, bufs, r->dims, ROWS / BLOCK, r->scratch, 64, r->threads);
}

const vt_model vt_plan = {
    .abi = VT_ABI_VERSION, .n_inputs = 1, .n_outputs = 1, .n_out_dims = 1, .scratch_bytes = 64,
    .weights_bytes = ROWS * COLUMNS * 4, .inputs = inputs, .outputs = outputs,
    .check = check, .shapes = shapes, .arena_bytes = arena_bytes, .run = run,
};
