/* ---- k_nest_ba32becd5147 */
void k_nest_ba32becd5147(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    float *b0 = (float *)bufs[0];
    const float *b1 = (const float *)bufs[1];
    for (int64_t i0 = 0; i0 < 2; i0++) {
        for (int64_t i1 = 0; i1 < 6; i1++) {
            for (int64_t i2 = 0; i2 < 6; i2++) {
                for (int64_t i3 = 0; i3 < 16; i3 += 16) {
                    vt_f32x8 ap0_0_0 = (vt_f32x8)(-__builtin_inff());
                    vt_f32x8 ap0_0_0_1 = (vt_f32x8)(-__builtin_inff());
                    for (int64_t i4 = 0; i4 < 3; i4++) {
                        for (int64_t i5 = 0; i5 < 3; i5++) {
                            vt_boolx1 p00m0 = ((vt_i64x1)((i1 * 2 + i4 - 1)) >= INT64_C(0));
                            vt_boolx1 p00m0_1 = ((vt_i64x1)((i1 * 2 + i4 - 1)) >= INT64_C(0));
                            vt_boolx1 p00m1 = ((vt_i64x1)((i1 * 2 + i4 - 1)) < (vt_i64x1)(11));
                            vt_boolx1 p00m1_1 = ((vt_i64x1)((i1 * 2 + i4 - 1)) < (vt_i64x1)(11));
                            vt_boolx1 p00m2 = (p00m0 & p00m1);
                            vt_boolx1 p00m2_1 = (p00m0_1 & p00m1_1);
                            vt_boolx1 p00m3 = ((vt_i64x1)((i2 * 2 + i5 - 1)) >= INT64_C(0));
                            vt_boolx1 p00m3_1 = ((vt_i64x1)((i2 * 2 + i5 - 1)) >= INT64_C(0));
                            vt_boolx1 p00m4 = (p00m2 & p00m3);
                            vt_boolx1 p00m4_1 = (p00m2_1 & p00m3_1);
                            vt_boolx1 p00m5 = ((vt_i64x1)((i2 * 2 + i5 - 1)) < (vt_i64x1)(11));
                            vt_boolx1 p00m5_1 = ((vt_i64x1)((i2 * 2 + i5 - 1)) < (vt_i64x1)(11));
                            vt_boolx1 p00m6 = (p00m4 & p00m5);
                            vt_boolx1 p00m6_1 = (p00m4_1 & p00m5_1);
                            vt_f32x8 p00m7 = vt_maskload_f32x8(b1 + (i0 * 2299 + i1 * 418 + i2 * 38 + i3 + i4 * 209 + i5 * 19 - 228), (vt_boolx8)(p00m6));
                            vt_f32x8 p00m7_1 = vt_maskload_f32x8(b1 + (i0 * 2299 + i1 * 418 + i2 * 38 + i3 + i4 * 209 + i5 * 19 - 220), (vt_boolx8)(p00m6_1));
                            vt_f32x8 p00m8 = vt_where_f32x8((vt_boolx8)(p00m6), p00m7, (vt_f32x8)(-__builtin_inff()));
                            vt_f32x8 p00m8_1 = vt_where_f32x8((vt_boolx8)(p00m6_1), p00m7_1, (vt_f32x8)(-__builtin_inff()));
                            ap0_0_0 = vt_max_f32x8(ap0_0_0, p00m8);
                            ap0_0_0_1 = vt_max_f32x8(ap0_0_0_1, p00m8_1);
                        }
                    }
                    *(vt_f32x8u *)(b0 + (i0 * 684 + i1 * 114 + i2 * 19 + i3)) = ap0_0_0;
                    *(vt_f32x8u *)(b0 + (i0 * 684 + i1 * 114 + i2 * 19 + i3 + 8)) = ap0_0_0_1;
                }
                if (((vt_i64x1)(3) > INT64_C(0))) {
                    const int64_t tail = (vt_i64x1)(3);
                    vt_f32x8 ap0_0_0 = (vt_f32x8)(-__builtin_inff());
                    for (int64_t i4 = 0; i4 < 3; i4++) {
                        for (int64_t i5 = 0; i5 < 3; i5++) {
                            vt_boolx1 p00m0 = ((vt_i64x1)((i1 * 2 + i4 - 1)) >= INT64_C(0));
                            vt_boolx1 p00m1 = ((vt_i64x1)((i1 * 2 + i4 - 1)) < (vt_i64x1)(11));
                            vt_boolx1 p00m2 = (p00m0 & p00m1);
                            vt_boolx1 p00m3 = ((vt_i64x1)((i2 * 2 + i5 - 1)) >= INT64_C(0));
                            vt_boolx1 p00m4 = (p00m2 & p00m3);
                            vt_boolx1 p00m5 = ((vt_i64x1)((i2 * 2 + i5 - 1)) < (vt_i64x1)(11));
                            vt_boolx1 p00m6 = (p00m4 & p00m5);
                            vt_f32x8 p00m7 = vt_maskload_f32x8(b1 + (i0 * 2299 + i1 * 418 + i2 * 38 + i4 * 209 + i5 * 19 - 212), ((vt_boolx8)(p00m6) & vt_head_boolx8(tail)));
                            vt_f32x8 p00m8 = vt_where_f32x8((vt_boolx8)(p00m6), p00m7, (vt_f32x8)(-__builtin_inff()));
                            ap0_0_0 = vt_max_f32x8(ap0_0_0, p00m8);
                        }
                    }
                    vt_store_f32x8(b0 + (i0 * 684 + i1 * 114 + i2 * 19 + 16), ap0_0_0, tail);
                }
            }
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

void k_nest_ba32becd5147(char *const *, const int64_t *, int64_t, char *);

static const int64_t input_dims_0[] = {2, 11, 11, 19};
static const vt_arg inputs[] = {{"x0", 1, 4, 4, 0, input_dims_0}};
static const vt_arg outputs[] = {{"y0", 1, 4, 4, 0, 0}};

static vt_status check(int64_t *dims) {
    (void)dims;

    return 0;
}

static void shapes(const int64_t *dims, int64_t *out) {
    (void)dims; (void)out;
    out[0] = 2;
    out[1] = 6;
    out[2] = 6;
    out[3] = 19;
}

static int64_t arena_bytes_0(const int64_t *dims) {
    (void)dims;
    return 0;
}

static void run_0(vt_run *r) {
    char *const A = r->arena; const char *const W = r->weights; int64_t *const dims = r->dims;
    (void)A; (void)W; (void)dims;

    /* reduce */ { char *const b[] = {r->outputs[0], r->inputs[0]}; const int64_t d[] = {0}; VT_STOPS(r); k_nest_ba32becd5147(b, d, 0, r->scratch); VT_DONE(r, 0); }
}

static int64_t arena_bytes(const int64_t *dims) {
    return arena_bytes_0(dims);
}

static void run(vt_run *r) {
    const int64_t *const dims = r->dims; (void)dims;
    run_0(r);
}

const vt_model vt_plan = {
    VT_ABI_VERSION, 1, 1, 0, 0, 0,
    4, 1, 0, INT64_C(0),
    inputs, outputs, check, shapes, arena_bytes, run,
};
