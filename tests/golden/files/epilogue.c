/* ---- k_gemm_eb8966e410bf */
void k_gemm_eb8966e410bf(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    const float *lhs = (const float *)bufs[0];
    const float *kernel_rhs = (const float *)bufs[1];
    float *b0 = (float *)bufs[2];
    const float *b1 = (const float *)bufs[3];
    for (int64_t m_0 = 0; m_0 < 2; m_0++) {
        const int64_t m_1 = (vt_i64x1)(m_0 * 4);
        const int64_t a_0 = (vt_i64x1)(m_1 * 32);
        vt_f32x8 t_0_0_0 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_0_1 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_0_2 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_1_0 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_1_1 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_1_2 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_2_0 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_2_1 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_2_2 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_3_0 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_3_1 = (vt_f32x8)(0x0.0p+0f);
        vt_f32x8 t_0_3_2 = (vt_f32x8)(0x0.0p+0f);
        for (int64_t k_0 = 0; k_0 < 32; k_0++) {
            vt_f32x8 b_0 = *(const vt_f32x8u *)(kernel_rhs + k_0 * 24);
            vt_f32x8 b_1 = *(const vt_f32x8u *)(kernel_rhs + (k_0 * 24 + 8));
            vt_f32x8 b_2 = *(const vt_f32x8u *)(kernel_rhs + (k_0 * 24 + 16));
            vt_f32x8 a_1 = (vt_f32x8)(*(lhs + (a_0 + k_0)));
            t_0_0_0 = vt_fma_f32x8(a_1, b_0, t_0_0_0);
            t_0_0_1 = vt_fma_f32x8(a_1, b_1, t_0_0_1);
            t_0_0_2 = vt_fma_f32x8(a_1, b_2, t_0_0_2);
            vt_f32x8 a_2 = (vt_f32x8)(*(lhs + (a_0 + k_0 + 32)));
            t_0_1_0 = vt_fma_f32x8(a_2, b_0, t_0_1_0);
            t_0_1_1 = vt_fma_f32x8(a_2, b_1, t_0_1_1);
            t_0_1_2 = vt_fma_f32x8(a_2, b_2, t_0_1_2);
            vt_f32x8 a_3 = (vt_f32x8)(*(lhs + (a_0 + k_0 + 64)));
            t_0_2_0 = vt_fma_f32x8(a_3, b_0, t_0_2_0);
            t_0_2_1 = vt_fma_f32x8(a_3, b_1, t_0_2_1);
            t_0_2_2 = vt_fma_f32x8(a_3, b_2, t_0_2_2);
            vt_f32x8 a_4 = (vt_f32x8)(*(lhs + (a_0 + k_0 + 96)));
            t_0_3_0 = vt_fma_f32x8(a_4, b_0, t_0_3_0);
            t_0_3_1 = vt_fma_f32x8(a_4, b_1, t_0_3_1);
            t_0_3_2 = vt_fma_f32x8(a_4, b_2, t_0_3_2);
        }
        vt_f32x8 e2_0 = *(const vt_f32x8u *)(b1 + 0);
        vt_f32x8 e2_1 = (t_0_0_0 + e2_0);
        vt_f32x8 e2_2 = vt_relu_f32x8(e2_1);
        *(vt_f32x8u *)(b0 + m_1 * 24) = e2_2;
        vt_f32x8 e3_0 = *(const vt_f32x8u *)(b1 + 8);
        vt_f32x8 e3_1 = (t_0_0_1 + e3_0);
        vt_f32x8 e3_2 = vt_relu_f32x8(e3_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 8)) = e3_2;
        vt_f32x8 e4_0 = *(const vt_f32x8u *)(b1 + 16);
        vt_f32x8 e4_1 = (t_0_0_2 + e4_0);
        vt_f32x8 e4_2 = vt_relu_f32x8(e4_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 16)) = e4_2;
        vt_f32x8 e5_0 = *(const vt_f32x8u *)(b1 + 0);
        vt_f32x8 e5_1 = (t_0_1_0 + e5_0);
        vt_f32x8 e5_2 = vt_relu_f32x8(e5_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 24)) = e5_2;
        vt_f32x8 e6_0 = *(const vt_f32x8u *)(b1 + 8);
        vt_f32x8 e6_1 = (t_0_1_1 + e6_0);
        vt_f32x8 e6_2 = vt_relu_f32x8(e6_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 32)) = e6_2;
        vt_f32x8 e7_0 = *(const vt_f32x8u *)(b1 + 16);
        vt_f32x8 e7_1 = (t_0_1_2 + e7_0);
        vt_f32x8 e7_2 = vt_relu_f32x8(e7_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 40)) = e7_2;
        vt_f32x8 e8_0 = *(const vt_f32x8u *)(b1 + 0);
        vt_f32x8 e8_1 = (t_0_2_0 + e8_0);
        vt_f32x8 e8_2 = vt_relu_f32x8(e8_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 48)) = e8_2;
        vt_f32x8 e9_0 = *(const vt_f32x8u *)(b1 + 8);
        vt_f32x8 e9_1 = (t_0_2_1 + e9_0);
        vt_f32x8 e9_2 = vt_relu_f32x8(e9_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 56)) = e9_2;
        vt_f32x8 e10_0 = *(const vt_f32x8u *)(b1 + 16);
        vt_f32x8 e10_1 = (t_0_2_2 + e10_0);
        vt_f32x8 e10_2 = vt_relu_f32x8(e10_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 64)) = e10_2;
        vt_f32x8 e11_0 = *(const vt_f32x8u *)(b1 + 0);
        vt_f32x8 e11_1 = (t_0_3_0 + e11_0);
        vt_f32x8 e11_2 = vt_relu_f32x8(e11_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 72)) = e11_2;
        vt_f32x8 e12_0 = *(const vt_f32x8u *)(b1 + 8);
        vt_f32x8 e12_1 = (t_0_3_1 + e12_0);
        vt_f32x8 e12_2 = vt_relu_f32x8(e12_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 80)) = e12_2;
        vt_f32x8 e13_0 = *(const vt_f32x8u *)(b1 + 16);
        vt_f32x8 e13_1 = (t_0_3_2 + e13_0);
        vt_f32x8 e13_2 = vt_relu_f32x8(e13_1);
        *(vt_f32x8u *)(b0 + (m_1 * 24 + 88)) = e13_2;
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

void k_gemm_eb8966e410bf(char *const *, const int64_t *, int64_t, char *);

static const int64_t input_dims_0[] = {8, 32};
static const vt_arg inputs[] = {{"x0", 1, 4, 2, 0, input_dims_0}};
static const vt_arg outputs[] = {{"y0", 1, 4, 2, 0, 0}};

static vt_status check(int64_t *dims) {
    (void)dims;

    return 0;
}

static void shapes(const int64_t *dims, int64_t *out) {
    (void)dims; (void)out;
    out[0] = 8;
    out[1] = 24;
}

static int64_t arena_bytes_0(const int64_t *dims) {
    (void)dims;
    return 0;
}

static void run_0(vt_run *r) {
    char *const A = r->arena; const char *const W = r->weights; int64_t *const dims = r->dims;
    (void)A; (void)W; (void)dims;

    /* contract */ { char *const b[] = {r->inputs[0], (char *)W + 128, r->outputs[0], (char *)W}; const int64_t d[] = {0}; VT_STOPS(r); k_gemm_eb8966e410bf(b, d, 0, r->scratch); VT_DONE(r, 0); }
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
    2, 1, 0, INT64_C(3200),
    inputs, outputs, check, shapes, arena_bytes, run,
};
