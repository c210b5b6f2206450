/* ---- k_nest_d03db4078239 */
void k_nest_d03db4078239(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    int64_t *b0 = (int64_t *)bufs[0];
    const int64_t n1_steps = dims[0]; (void)n1_steps;
    for (int64_t i0 = 0; i0 < (vt_min(16384, (n1_steps - task * 16384)) / 8) * 8; i0 += 8) {
        vt_i64x8 t0 = ((vt_i64x8){0, 1, 2, 3, 4, 5, 6, 7} + (vt_i64x8)((vt_i64x1)((i0 + task * 16384))));
        *(vt_i64x8u *)(b0 + (i0 + task * 16384)) = t0;
    }
    if (((vt_i64x1)((vt_min(16384, (n1_steps - task * 16384)) - (vt_min(16384, (n1_steps - task * 16384)) / 8) * 8)) > INT64_C(0))) {
        const int64_t tail = (vt_i64x1)((vt_min(16384, (n1_steps - task * 16384)) - (vt_min(16384, (n1_steps - task * 16384)) / 8) * 8));
        vt_i64x8 t0 = ((vt_i64x8){0, 1, 2, 3, 4, 5, 6, 7} + (vt_i64x8)((vt_i64x1)(((vt_min(16384, (n1_steps - task * 16384)) / 8) * 8 + task * 16384))));
        vt_store_i64x8(b0 + ((vt_min(16384, (n1_steps - task * 16384)) / 8) * 8 + task * 16384), t0, tail);
    }
}

/* ---- k_nest_fae243d5b07d */
void k_nest_fae243d5b07d(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    int64_t *b0 = (int64_t *)bufs[0];
    const int64_t *b1 = (const int64_t *)bufs[1];
    const int64_t *b2 = (const int64_t *)bufs[2];
    int64_t *status = (int64_t *)bufs[3];
    const int64_t n0_n = dims[0]; (void)n0_n;
    const int64_t n1_steps = dims[1]; (void)n1_steps;
    for (int64_t i0 = 0; i0 < (vt_min(8192, (n0_n - task * 8192)) / 8) * 8; i0 += 8) {
        vt_i64x8 t0 = *(const vt_i64x8u *)(b1 + (i0 + task * 8192));
        vt_boolx8 t1 = __builtin_convertvector((t0 < (vt_i64x8)(INT64_C(0))), vt_boolx8);
        vt_boolx8 t2 = __builtin_convertvector((t0 >= (vt_i64x8)((vt_i64x1)(n1_steps))), vt_boolx8);
        vt_boolx8 t3 = (t1 | t2);
        if (vt_fold_or_boolx8(t3)) {
            { int64_t ok = 0; __atomic_compare_exchange_n(status, &ok, INT64_C(4294967297), 0, 0, 0); return; }
        }
        vt_i64x8 t4 = vt_where_i64x8(t3, (vt_i64x8)(INT64_C(0)), t0);
        vt_i64x8 t5 = (t4 * (vt_i64x8)((vt_i64x1)(1)));
        vt_i64x8 t6 = ((vt_i64x8)((vt_i64x1)(0)) + t5);
        vt_i64x8 t7 = vt_gather_i64x8(b2 + 0, __builtin_convertvector(t6, vt_i64x8), ~(vt_boolx8)(0));
        vt_i64x8 t8 = (t7 * t7);
        *(vt_i64x8u *)(b0 + (i0 + task * 8192)) = t8;
    }
    if (((vt_i64x1)((vt_min(8192, (n0_n - task * 8192)) - (vt_min(8192, (n0_n - task * 8192)) / 8) * 8)) > INT64_C(0))) {
        const int64_t tail = (vt_i64x1)((vt_min(8192, (n0_n - task * 8192)) - (vt_min(8192, (n0_n - task * 8192)) / 8) * 8));
        vt_i64x8 t0 = vt_load_i64x8(b1 + ((vt_min(8192, (n0_n - task * 8192)) / 8) * 8 + task * 8192), tail);
        vt_boolx8 t1 = __builtin_convertvector((t0 < (vt_i64x8)(INT64_C(0))), vt_boolx8);
        vt_boolx8 t2 = __builtin_convertvector((t0 >= (vt_i64x8)((vt_i64x1)(n1_steps))), vt_boolx8);
        vt_boolx8 t3 = (t1 | t2);
        if (vt_fold_or_boolx8((t3 & __builtin_convertvector(((vt_i64x8){0, 1, 2, 3, 4, 5, 6, 7} < (vt_i64x8)((vt_i64x1)(tail))), vt_boolx8)))) {
            { int64_t ok = 0; __atomic_compare_exchange_n(status, &ok, INT64_C(4294967297), 0, 0, 0); return; }
        }
        vt_i64x8 t4 = vt_where_i64x8(t3, (vt_i64x8)(INT64_C(0)), t0);
        vt_i64x8 t5 = (t4 * (vt_i64x8)((vt_i64x1)(1)));
        vt_i64x8 t6 = ((vt_i64x8)((vt_i64x1)(0)) + t5);
        vt_i64x8 t7 = vt_gather_i64x8(b2 + 0, __builtin_convertvector(t6, vt_i64x8), __builtin_convertvector(((vt_i64x8){0, 1, 2, 3, 4, 5, 6, 7} < (vt_i64x8)((vt_i64x1)(tail))), vt_boolx8));
        vt_i64x8 t8 = (t7 * t7);
        vt_store_i64x8(b0 + ((vt_min(8192, (n0_n - task * 8192)) / 8) * 8 + task * 8192), t8, tail);
    }
}

/* ---- k_nest_da8ec2a94624 */
void k_nest_da8ec2a94624(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    int64_t *b0 = (int64_t *)bufs[0];
    const int64_t *b1 = (const int64_t *)bufs[1];
    const int64_t n1_steps = dims[0]; (void)n1_steps;
    vt_i64x8 ap0_0_0 = (vt_i64x8)(INT64_C(0));
    vt_i64x8 ap0_0_1 = (vt_i64x8)(INT64_C(0));
    vt_i64x8 ap0_0_2 = (vt_i64x8)(INT64_C(0));
    vt_i64x8 ap0_0_3 = (vt_i64x8)(INT64_C(0));
    for (int64_t i0 = 0; i0 < (n1_steps / 32) * 32; i0 += 32) {
        vt_i64x8 p00m0 = *(const vt_i64x8u *)(b1 + i0);
        ap0_0_0 = (ap0_0_0 + p00m0);
        vt_i64x8 p01m0 = *(const vt_i64x8u *)(b1 + (i0 + 8));
        ap0_0_1 = (ap0_0_1 + p01m0);
        vt_i64x8 p02m0 = *(const vt_i64x8u *)(b1 + (i0 + 16));
        ap0_0_2 = (ap0_0_2 + p02m0);
        vt_i64x8 p03m0 = *(const vt_i64x8u *)(b1 + (i0 + 24));
        ap0_0_3 = (ap0_0_3 + p03m0);
    }
    for (int64_t i0 = 0; i0 < ((n1_steps / 8) * 8 - (n1_steps / 32) * 32); i0 += 8) {
        vt_i64x8 p00m0 = *(const vt_i64x8u *)(b1 + ((n1_steps / 32) * 32 + i0));
        ap0_0_0 = (ap0_0_0 + p00m0);
    }
    if (((vt_i64x1)((n1_steps - (n1_steps / 8) * 8)) > INT64_C(0))) {
        const int64_t tail = (vt_i64x1)((n1_steps - (n1_steps / 8) * 8));
        vt_i64x8 p00z0 = vt_load_i64x8(b1 + (n1_steps / 8) * 8, tail);
        vt_boolx8 p00z1 = __builtin_convertvector(((vt_i64x8){0, 1, 2, 3, 4, 5, 6, 7} < (vt_i64x8)((vt_i64x1)(tail))), vt_boolx8);
        vt_i64x8 p00z2 = vt_where_i64x8(p00z1, p00z0, (vt_i64x8)(INT64_C(0)));
        ap0_0_0 = (ap0_0_0 + p00z2);
    }
    vt_i64x8 t0 = (ap0_0_0 + ap0_0_2);
    vt_i64x8 t1 = (ap0_0_1 + ap0_0_3);
    vt_i64x8 t2 = (t0 + t1);
    vt_i64x1 t3 = vt_fold_add_i64x8(t2);
    *(b0 + 0) = t3;
}

/* ---- plan */
#include "abi.h"

static inline int64_t vt_floordiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
static inline int64_t vt_floormod(int64_t a, int64_t b) { return a - vt_floordiv(a, b) * b; }
static inline int64_t vt_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t vt_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline double vt_real_min(double a, double b) { return a < b ? a : b; }
static inline double vt_real_max(double a, double b) { return a > b ? a : b; }

void k_nest_d03db4078239(char *const *, const int64_t *, int64_t, char *);
void k_nest_da8ec2a94624(char *const *, const int64_t *, int64_t, char *);
void k_nest_fae243d5b07d(char *const *, const int64_t *, int64_t, char *);

static const int64_t input_dims_1[] = {-1};
static const vt_arg inputs[] = {{"x0", 8, 8, 0, 0, 0}, {"x1", 8, 8, 1, 0, input_dims_1}};
static const vt_arg outputs[] = {{"y0", 8, 8, 1, 0, 0}, {"y1", 8, 8, 1, 1, 0}, {"y2", 8, 8, 0, 0, 0}};

static vt_status check(int64_t *dims) {
    (void)dims;
    int64_t n0_n = dims[0];
    (void)n0_n;

    if ((8.0 * (double)n0_n) > 140737488355328.0) return (int64_t)VT_ERR_OVERFLOW << 32;
    return 0;
}

static void shapes(const int64_t *dims, int64_t *out) {
    (void)dims; (void)out;
    int64_t n0_n = dims[0];
    (void)n0_n;
    out[0] = n0_n;
    out[1] = 0;
}

static int64_t arena_bytes_0(const int64_t *dims) {
    (void)dims;
    int64_t n0_n = dims[0];
    (void)n0_n;
    return 64;
}

static void run_0(vt_run *r) {
    char *const A = r->arena; const char *const W = r->weights; int64_t *const dims = r->dims;
    (void)A; (void)W; (void)dims;
    int64_t n0_n = dims[0];
    int64_t n1_steps = dims[1];
    (void)n0_n;
    (void)n1_steps;
    n1_steps = dims[1] = *(const int64_t *)(r->inputs[0]);
    if (n1_steps < 0) { r->status = ((int64_t)VT_ERR_SIZE << 32) | 0; return; }
    if ((1.0 * vt_real_max(1.0, (8.0 * (double)n1_steps))) > 140737488355328.0) { r->status = (int64_t)VT_ERR_OVERFLOW << 32; return; }
    if (r->late[0]) r->host->release(r->late[0]);
    r->late[0] = r->host->alloc(64, (size_t)vt_max(1, n1_steps * 8));
    if (!r->late[0]) { r->status = (int64_t)VT_ERR_MEMORY << 32; return; }
    /* Range 'steps' */ { char *const b[] = {(char *)r->late[0]}; const int64_t d[] = {n1_steps}; VT_STOPS(r); if (((n1_steps + 16383) / 16384) > 0) r->host->parallel_for(r->host->pool, k_nest_d03db4078239, b, d, ((n1_steps + 16383) / 16384), r->scratch, 0, r->threads); VT_DONE(r, 0); }
    /* Gather 'pick' */ { char *const b[] = {r->outputs[0], r->inputs[1], (char *)r->late[0], (char *)&r->status}; const int64_t d[] = {n0_n, n1_steps}; VT_STOPS(r); if (((n0_n + 8191) / 8192) > 0) r->host->parallel_for(r->host->pool, k_nest_fae243d5b07d, b, d, ((n0_n + 8191) / 8192), r->scratch, 0, r->threads); VT_DONE(r, 1); }
    if (r->status) return;
    /* reduce */ { char *const b[] = {r->outputs[2], (char *)r->late[0]}; const int64_t d[] = {n1_steps}; VT_STOPS(r); k_nest_da8ec2a94624(b, d, 0, r->scratch); VT_DONE(r, 2); }
    r->outputs[1] = (char *)r->late[0];
    r->out_shapes[1] = n1_steps;
}

static int64_t arena_bytes(const int64_t *dims) {
    return arena_bytes_0(dims);
}

static void run(vt_run *r) {
    const int64_t *const dims = r->dims; (void)dims;
    run_0(r);
}

const vt_model vt_plan = {
    VT_ABI_VERSION, 2, 3, 1, 2, 1,
    2, 0, 0, INT64_C(0),
    inputs, outputs, check, shapes, arena_bytes, run,
};
