/* ---- k_nest_4cd7804efc2d */
void k_nest_4cd7804efc2d(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    float *b0 = (float *)bufs[0];
    const float *b1 = (const float *)bufs[1];
    const int64_t n0_n = dims[0]; (void)n0_n;
    float *tile0 = (float *)(scratch + 0);
    for (int64_t row = 0; row < vt_min((n0_n - vt_max(((n0_n + 63) / 64), 13) * task), vt_max(((n0_n + 63) / 64), 13)); row++) {
        const int64_t at = (vt_i64x1)((vt_max(((n0_n + 63) / 64), 13) * task + row));
        const int64_t i0 = (vt_i64x1)(at);
        vt_f32x4 ap0_0_0 = (vt_f32x4)(-__builtin_inff());
        vt_f32x4 ap0_0_1 = (vt_f32x4)(-__builtin_inff());
        vt_f32x4 ap0_0_2 = (vt_f32x4)(-__builtin_inff());
        vt_f32x4 ap0_0_3 = (vt_f32x4)(-__builtin_inff());
        for (int64_t i1 = 0; i1 < 64; i1 += 16) {
            vt_f32x4 p00m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1));
            ap0_0_0 = vt_max_f32x4(ap0_0_0, p00m0);
            vt_f32x4 p01m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1 + 4));
            ap0_0_1 = vt_max_f32x4(ap0_0_1, p01m0);
            vt_f32x4 p02m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1 + 8));
            ap0_0_2 = vt_max_f32x4(ap0_0_2, p02m0);
            vt_f32x4 p03m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1 + 12));
            ap0_0_3 = vt_max_f32x4(ap0_0_3, p03m0);
        }
        if (((vt_i64x1)(3) > INT64_C(0))) {
            const int64_t tail = (vt_i64x1)(3);
            vt_f32x4 p00z0 = vt_load_f32x4(b1 + (i0 * 67 + 64), tail);
            vt_boolx4 p00z1 = __builtin_convertvector(((vt_i64x4){0, 1, 2, 3} < (vt_i64x4)((vt_i64x1)(tail))), vt_boolx4);
            vt_f32x4 p00z2 = vt_where_f32x4(p00z1, p00z0, (vt_f32x4)(-__builtin_inff()));
            ap0_0_0 = vt_max_f32x4(ap0_0_0, p00z2);
        }
        vt_f32x4 t0 = vt_max_f32x4(ap0_0_0, ap0_0_2);
        vt_f32x4 t1 = vt_max_f32x4(ap0_0_1, ap0_0_3);
        vt_f32x4 t2 = vt_max_f32x4(t0, t1);
        vt_f32x1 t3 = vt_fold_max_f32x4(t2);
        vt_f32x4 ap1_0_0 = (vt_f32x4)(0x0.0p+0f);
        vt_f32x4 ap1_0_1 = (vt_f32x4)(0x0.0p+0f);
        vt_f32x4 ap1_0_2 = (vt_f32x4)(0x0.0p+0f);
        vt_f32x4 ap1_0_3 = (vt_f32x4)(0x0.0p+0f);
        for (int64_t i1 = 0; i1 < 64; i1 += 16) {
            vt_f32x4 p10m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1));
            vt_f32x4 p10m1 = (p10m0 - (vt_f32x4)(t3));
            vt_f32x4 p10m2 = vt_exp_f32x4(p10m1);
            *(vt_f32x4u *)(tile0 + i1) = p10m2;
            ap1_0_0 = (ap1_0_0 + p10m2);
            vt_f32x4 p11m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1 + 4));
            vt_f32x4 p11m1 = (p11m0 - (vt_f32x4)(t3));
            vt_f32x4 p11m2 = vt_exp_f32x4(p11m1);
            *(vt_f32x4u *)(tile0 + (i1 + 4)) = p11m2;
            ap1_0_1 = (ap1_0_1 + p11m2);
            vt_f32x4 p12m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1 + 8));
            vt_f32x4 p12m1 = (p12m0 - (vt_f32x4)(t3));
            vt_f32x4 p12m2 = vt_exp_f32x4(p12m1);
            *(vt_f32x4u *)(tile0 + (i1 + 8)) = p12m2;
            ap1_0_2 = (ap1_0_2 + p12m2);
            vt_f32x4 p13m0 = *(const vt_f32x4u *)(b1 + (i0 * 67 + i1 + 12));
            vt_f32x4 p13m1 = (p13m0 - (vt_f32x4)(t3));
            vt_f32x4 p13m2 = vt_exp_f32x4(p13m1);
            *(vt_f32x4u *)(tile0 + (i1 + 12)) = p13m2;
            ap1_0_3 = (ap1_0_3 + p13m2);
        }
        if (((vt_i64x1)(3) > INT64_C(0))) {
            const int64_t tail = (vt_i64x1)(3);
            vt_f32x4 p10z0 = vt_load_f32x4(b1 + (i0 * 67 + 64), tail);
            vt_f32x4 p10z1 = (p10z0 - (vt_f32x4)(t3));
            vt_f32x4 p10z2 = vt_exp_f32x4(p10z1);
            vt_store_f32x4(tile0 + 64, p10z2, tail);
            vt_boolx4 p10z3 = __builtin_convertvector(((vt_i64x4){0, 1, 2, 3} < (vt_i64x4)((vt_i64x1)(tail))), vt_boolx4);
            vt_f32x4 p10z4 = vt_where_f32x4(p10z3, p10z2, (vt_f32x4)(0x0.0p+0f));
            ap1_0_0 = (ap1_0_0 + p10z4);
        }
        vt_f32x4 t4 = (ap1_0_0 + ap1_0_2);
        vt_f32x4 t5 = (ap1_0_1 + ap1_0_3);
        vt_f32x4 t6 = (t4 + t5);
        vt_f32x1 t7 = vt_fold_add_f32x4(t6);
        vt_f32x1 t8 = (0x1.0000000000000p+0f / t7);
        for (int64_t i1 = 0; i1 < 64; i1 += 4) {
            vt_f32x4 om0 = *(const vt_f32x4u *)(tile0 + i1);
            vt_f32x4 om1 = (om0 * (vt_f32x4)(t8));
            *(vt_f32x4u *)(b0 + (i0 * 67 + i1)) = om1;
        }
        if (((vt_i64x1)(3) > INT64_C(0))) {
            const int64_t tail = (vt_i64x1)(3);
            vt_f32x4 oz0 = vt_load_f32x4(tile0 + 64, tail);
            vt_f32x4 oz1 = (oz0 * (vt_f32x4)(t8));
            vt_store_f32x4(b0 + (i0 * 67 + 64), oz1, tail);
        }
    }
}

/* ---- plan */
#include "abi.h"

static inline int64_t vt_floordiv(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }
static inline int64_t vt_floormod(int64_t a, int64_t b) { return a - vt_floordiv(a, b) * b; }
static inline int64_t vt_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t vt_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline double vt_real_min(double a, double b) { return a < b ? a : b; }
static inline double vt_real_max(double a, double b) { return a > b ? a : b; }

void k_nest_4cd7804efc2d(char *const *, const int64_t *, int64_t, char *);

static const int64_t input_dims_0[] = {-1, 67};
static const vt_arg inputs[] = {{"x0", 1, 4, 2, 0, input_dims_0}};
static const vt_arg outputs[] = {{"y0", 1, 4, 2, 0, 0}};

static vt_status check(int64_t *dims) {
    (void)dims;
    int64_t n0_n = dims[0];
    (void)n0_n;

    if ((268.0 * (double)n0_n) > 140737488355328.0) return (int64_t)VT_ERR_OVERFLOW << 32;
    return 0;
}

static void shapes(const int64_t *dims, int64_t *out) {
    (void)dims; (void)out;
    int64_t n0_n = dims[0];
    (void)n0_n;
    out[0] = n0_n;
    out[1] = 67;
}

static int64_t arena_bytes_0(const int64_t *dims) {
    (void)dims;
    int64_t n0_n = dims[0];
    (void)n0_n;
    return 0;
}

static void run_0(vt_run *r) {
    char *const A = r->arena; const char *const W = r->weights; int64_t *const dims = r->dims;
    (void)A; (void)W; (void)dims;
    int64_t n0_n = dims[0];
    (void)n0_n;
    /* reduce */ { char *const b[] = {r->outputs[0], r->inputs[0]}; const int64_t d[] = {n0_n}; VT_STOPS(r); if ((vt_floordiv((n0_n - 1), vt_max(((n0_n + 63) / 64), 13)) + 1) > 0) r->host->parallel_for(r->host->pool, k_nest_4cd7804efc2d, b, d, (vt_floordiv((n0_n - 1), vt_max(((n0_n + 63) / 64), 13)) + 1), r->scratch, 576, r->threads); VT_DONE(r, 0); }
}

static int64_t arena_bytes(const int64_t *dims) {
    return arena_bytes_0(dims);
}

static void run(vt_run *r) {
    const int64_t *const dims = r->dims; (void)dims;
    run_0(r);
}

const vt_model vt_plan = {
    VT_ABI_VERSION, 1, 1, 1, 1, 0,
    2, 0, 576, INT64_C(0),
    inputs, outputs, check, shapes, arena_bytes, run,
};
