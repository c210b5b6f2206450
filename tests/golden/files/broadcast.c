/* ---- k_nest_0b967138e9f3 */
void k_nest_0b967138e9f3(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    (void)bufs; (void)dims; (void)task; (void)scratch;
    float *b0 = (float *)bufs[0];
    const float *b1 = (const float *)bufs[1];
    const float *b2 = (const float *)bufs[2];
    const int64_t n0_n = dims[0]; (void)n0_n;
    for (int64_t row = 0; row < vt_min((n0_n * 7 - vt_max(((n0_n * 7 + 63) / 64), 166) * task), vt_max(((n0_n * 7 + 63) / 64), 166)); row++) {
        const int64_t at = (vt_i64x1)((vt_max(((n0_n * 7 + 63) / 64), 166) * task + row));
        const int64_t i1 = (vt_i64x1)((at % 7));
        const int64_t i0 = (vt_i64x1)((at / 7));
        for (int64_t i2 = 0; i2 < 32; i2 += 8) {
            vt_f32x8 t0 = *(const vt_f32x8u *)(b1 + (i0 * 231 + i1 * 33 + i2));
            vt_f32x1 t1 = *(b2 + i1);
            vt_f32x8 t2 = (t0 + (vt_f32x8)(t1));
            vt_f32x8 t3 = vt_relu_f32x8(t2);
            *(vt_f32x8u *)(b0 + (i0 * 231 + i1 * 33 + i2)) = t3;
        }
        if (((vt_i64x1)(1) > INT64_C(0))) {
            const int64_t tail = (vt_i64x1)(1);
            vt_f32x8 t0 = vt_load_f32x8(b1 + (i0 * 231 + i1 * 33 + 32), tail);
            vt_f32x1 t1 = *(b2 + i1);
            vt_f32x8 t2 = (t0 + (vt_f32x8)(t1));
            vt_f32x8 t3 = vt_relu_f32x8(t2);
            vt_store_f32x8(b0 + (i0 * 231 + i1 * 33 + 32), t3, tail);
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

void k_nest_0b967138e9f3(char *const *, const int64_t *, int64_t, char *);

static const int64_t input_dims_0[] = {-1, 7, 33};
static const int64_t input_dims_1[] = {7, 1};
static const vt_arg inputs[] = {{"x0", 1, 4, 3, 0, input_dims_0}, {"x1", 1, 4, 2, 0, input_dims_1}};
static const vt_arg outputs[] = {{"y0", 1, 4, 3, 0, 0}};

static vt_status check(int64_t *dims) {
    (void)dims;
    int64_t n0_n = dims[0];
    (void)n0_n;

    if ((924.0 * (double)n0_n) > 140737488355328.0) return (int64_t)VT_ERR_OVERFLOW << 32;
    return 0;
}

static void shapes(const int64_t *dims, int64_t *out) {
    (void)dims; (void)out;
    int64_t n0_n = dims[0];
    (void)n0_n;
    out[0] = n0_n;
    out[1] = 7;
    out[2] = 33;
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
    /* map */ { char *const b[] = {r->outputs[0], r->inputs[0], r->inputs[1]}; const int64_t d[] = {n0_n}; VT_STOPS(r); if ((vt_floordiv((n0_n * 7 - 1), vt_max(((n0_n * 7 + 63) / 64), 166)) + 1) > 0) r->host->parallel_for(r->host->pool, k_nest_0b967138e9f3, b, d, (vt_floordiv((n0_n * 7 - 1), vt_max(((n0_n * 7 + 63) / 64), 166)) + 1), r->scratch, 0, r->threads); VT_DONE(r, 0); }
}

static int64_t arena_bytes(const int64_t *dims) {
    return arena_bytes_0(dims);
}

static void run(vt_run *r) {
    const int64_t *const dims = r->dims; (void)dims;
    run_0(r);
}

const vt_model vt_plan = {
    VT_ABI_VERSION, 2, 1, 1, 1, 0,
    3, 0, 0, INT64_C(0),
    inputs, outputs, check, shapes, arena_bytes, run,
};
