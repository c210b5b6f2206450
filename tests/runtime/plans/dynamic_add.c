/* y[N, M] = a[N, M] + b[M, 3] summed over its 3 columns; total[2 * N]. Needs M <= 1000; tasks are rows. */
#include "abi.h"

enum { N = 0, M = 1, DOUBLE_N = 2 };
static const int64_t a_dims[] = {-1, -2}, b_dims[] = {-2, 3};
static const vt_arg inputs[] = {{"a", 1, 4, 2, 0, a_dims}, {"b", 1, 4, 2, 0, b_dims}};
static const vt_arg outputs[] = {{"y", 1, 4, 2, 0, 0}, {"total", 1, 4, 1, 0, 0}};

static vt_status check(int64_t *d) {
    if (d[M] > 1000) return ((vt_status)VT_ERR_SHAPE << 32) | 1;
    if (__builtin_mul_overflow(d[N], 2, &d[DOUBLE_N])) return (vt_status)VT_ERR_OVERFLOW << 32;
    return VT_OK;
}
static void shapes(const int64_t *d, int64_t *out) { out[0] = d[N], out[1] = d[M], out[2] = d[DOUBLE_N]; }
static int64_t arena_bytes(const int64_t *d) { return d[M] * 4; }

static void columns(char *const *bufs, const int64_t *d, int64_t task, char *scratch) {
    (void)task, (void)scratch;
    const float *b = (const float *)bufs[1];
    float *sums = (float *)bufs[4];
    for (int64_t j = 0; j < d[M]; j++) sums[j] = b[j * 3] + b[j * 3 + 1] + b[j * 3 + 2];
}
static void row(char *const *bufs, const int64_t *d, int64_t task, char *scratch) {
    (void)scratch;
    const float *a = (const float *)bufs[0] + task * d[M], *sums = (const float *)bufs[4];
    float *y = (float *)bufs[2] + task * d[M], *total = (float *)bufs[3], t = 0;
    for (int64_t j = 0; j < d[M]; j++) t += y[j] = a[j] + sums[j];
    total[2 * task] = t, total[2 * task + 1] = -t;
}
static void run(vt_run *r) {
    char *bufs[] = {r->inputs[0], r->inputs[1], r->outputs[0], r->outputs[1], r->arena};
    columns(bufs, r->dims, 0, r->scratch);
    r->host->parallel_for(r->host->pool, row, bufs, r->dims, r->dims[N], r->scratch, 64, r->threads);
}

const vt_model vt_plan = {
    .abi = VT_ABI_VERSION, .n_inputs = 2, .n_outputs = 2, .n_bound = 2, .n_dims = 3, .n_out_dims = 3,
    .scratch_bytes = 64, .inputs = inputs, .outputs = outputs,
    .check = check, .shapes = shapes, .arena_bytes = arena_bytes, .run = run,
};
