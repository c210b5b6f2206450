/* f64: exponentials, logarithms and what is made of them.  See docs/vector-math.md for the bounds. */

/* p * 2^n rounded once, subnormal results included; n is an integer below 2044 in magnitude and
 * z = n + 1.5 * 2^52. The halves of n are taken with a bias: 64-bit arithmetic shifts are slow before
 * AVX-512. */
VT_FN VF VT(scale)(VF p, VF z, VF n) {
#if VT_HAS_SCALEF
  (void)z;
  return VT_SCALEF;
#else
  (void)n;
  VU t = (VU)z - (0x4338000000000000ull - 4096ull);
  VU h = t >> 1;
  VU a = (h - 1025ull) << 52;
  VU b = (t - h - 1025ull) << 52;
  return p * (VF)a * (VF)b;
#endif
}

/* x = n ln 2 + r with |r| <= ln 2 / 2; the first product is exact under fma. */
VT_FN VF VT(exp_split)(VF x, VF *z, VF *n) {
  *z = VT_H(x, VT_K(x, 0x1.71547652b82fep+0), 0x1.8p52);
  *n = *z - 0x1.8p52;
  VF r = VT_FMA(*n, VT_K(x, -0x1.62e42fefa39efp-1), x);
  return VT_FMA(*n, VT_K(x, -0x1.abc9e3b39803fp-56), r);
}

/* e^r on |r| <= ln 2 / 2, approximation error 2^-60. */
VT_FN VF VT(exp_poly)(VF r) {
  VF p = VT_K(r, 0x1.1e3d41ac8de05p-29);
  p = VT_H(p, r, 0x1.af6be95c29c45p-26);
  p = VT_H(p, r, 0x1.27e5b438df4ep-22);
  p = VT_H(p, r, 0x1.71ddf01fe508ep-19);
  p = VT_H(p, r, 0x1.a01a01367c47bp-16);
  p = VT_H(p, r, 0x1.a01a01b37f39ap-13);
  p = VT_H(p, r, 0x1.6c16c16c30569p-10);
  p = VT_H(p, r, 0x1.111111110ec51p-7);
  p = VT_H(p, r, 0x1.5555555555505p-5);
  p = VT_H(p, r, 0x1.555555555555bp-3);
  p = VT_H(p, r, 0x1p-1);
  p = VT_H(p, r, 1.0);
  return VT_H(p, r, 1.0);
}

VT_FN VF VT(exp)(VF x) {
  VF z, n;
  x = VT_MIN(x, 710.0);
  VI gone = x < -746.0; /* 0, which scaling would reach by an underflow that takes a hundred cycles */
  x = VT_SEL(gone, VT_K(x, 0.0), x);
  VF r = VT(exp_split)(x, &z, &n);
  return VT_SEL(gone, VT_K(x, 0.0), VT(scale)(VT(exp_poly)(r), z, n));
}

VT_FN VF VT(exp2)(VF x) {
  x = VT_MIN(x, 1025.0);
  x = VT_MAX(x, -1076.0);
  VF z = x + 0x1.8p52;
  VF n = z - 0x1.8p52;
  return VT(scale)(VT(exp_poly)((x - n) * 0x1.62e42fefa39efp-1), z, n);
}

/* e^r - 1 on |r| <= ln 2 / 2, relative error 2^-60. */
VT_FN VF VT(expm1_poly)(VF r) {
  VF q = VT_K(r, 0x1.1ee897889f088p-29);
  q = VT_H(q, r, 0x1.af5e73d627b06p-26);
  q = VT_H(q, r, 0x1.27e5362550a9ap-22);
  q = VT_H(q, r, 0x1.71ddf88049373p-19);
  q = VT_H(q, r, 0x1.a01a017bd0a17p-16);
  q = VT_H(q, r, 0x1.a01a01afd3371p-13);
  q = VT_H(q, r, 0x1.6c16c16c1eeedp-10);
  q = VT_H(q, r, 0x1.111111110f6d8p-7);
  q = VT_H(q, r, 0x1.5555555555542p-5);
  q = VT_H(q, r, 0x1.5555555555559p-3);
  q = VT_H(q, r, 0x1p-1);
  return VT_FMA(r * r, q, r);
}

/* Doubled last, because 2^n of the largest n would overflow. */
VT_FN VF VT(expm1)(VF x) {
  VF z, n;
  VF c = VT_MIN(x, 710.0);
  c = VT_MAX(c, -50.0);
  VF p = VT(expm1_poly)(VT(exp_split)(c, &z, &n));
  VF s = (VF)(((VU)z << 52) + 0x3fe0000000000000ull);
  VF h = VT_FMA(s, p, s - 0.5);
  VI tiny = __builtin_elementwise_abs(x) < 0x1p-54;
  return VT_SEL(tiny, x, h + h);
}

/* With h = (e^(-2|x|) - 1) / 2: tanh |x| = -h / (1 + h), or 1 - (1 + 2h) / (1 + h) where that is more
 * accurate. */
VT_FN VF VT(tanh)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 20.0);
  VF p = VT(expm1_poly)(VT(exp_split)(a * -2.0, &z, &n));
  VF s = (VF)(((VU)z << 52) + 0x3fe0000000000000ull);
  VF h = VT_FMA(s, p, s - 0.5);
  VF e = VT_FMA(s, p, s);
  VF d = h + 1.0;
  VI near = a > 0.55;
  VF t = VT_SEL(near, -(e + e), -h) / d;
  t = VT_FMA(t, (d - 1.0) - h, t);
  return __builtin_elementwise_copysign(t + VT_SEL(near, VT_K(x, 1.0), VT_K(x, 0.0)), x);
}

/* a / (1 + e) for 0 <= e <= 1, the rounding of 1 + e put back to first order where e is small. */
VT_FN VF VT(over_one_plus)(VF a, VF e) {
  VF d = e + 1.0;
  VF q = a / d;
  return VT_FMA(q, (d - 1.0) - e, q);
}

/* Both signs from e = exp(-|x|), so that the small side keeps its relative accuracy. */
VT_FN VF VT(sigmoid)(VF x) {
  VF z, n;
  VF c = -__builtin_elementwise_abs(x);
  c = VT_MAX(c, -746.0);
  VF r = VT(exp_split)(c, &z, &n);
  VF e = VT(scale)(VT(exp_poly)(r), z, n);
  return VT(over_one_plus)(VT_SEL(x < 0.0, e, VT_K(x, 1.0)), e);
}

/* x sigmoid(x); the factor x goes in before the scaling, so a subnormal e costs no accuracy. */
VT_FN VF VT(silu)(VF x) {
  VF z, n;
  VF c = -__builtin_elementwise_abs(x);
  c = VT_MAX(c, -760.0);
  VF p = VT(exp_poly)(VT(exp_split)(c, &z, &n));
  VF e = VT(scale)(p, z, n);
  VF xe = VT(scale)(p * c, z, n);
  return VT_SEL(~(VI)(x <= 760.0), x, VT(over_one_plus)(VT_SEL(x < 0.0, xe, x), e));
}

/* t - 2048 as a float, for the unsigned t below 2^52 that the exponent extractions leave. */
VT_FN VF VT(from_biased)(VU t) { return (VF)(t + 0x4330000000000000ull) - (0x1p52 + 2048.0); }

/* x = 2^k m with m in [sqrt(1/2), sqrt 2): returns m - 1; subnormals are scaled up first. */
VT_FN VF VT(log_split)(VF x, VF *k) {
  VI sub = x < 0x1p-1022;
  VU ix = (VU)VT_SEL(sub, x * 0x1p54, x) - 0x3fe6a09e667f3bcdull;
  VF m = (VF)((ix & 0xfffffffffffffull) + 0x3fe6a09e667f3bcdull);
  VU e = ((ix + (1024ull << 52)) >> 52) + 1024ull;
  *k = VT(from_biased)(e) - VT_SEL(sub, VT_K(x, 54.0), VT_K(x, 0.0));
  return m - 1.0;
}

/* A logarithm's value outside the finite positive numbers. */
VT_FN VF VT(log_special)(VF x, VF r) {
  r = VT_SEL(x == __builtin_inf(), x, r);
  r = VT_SEL(~(VI)(x >= 0.0), VT_K(x, __builtin_nan("")), r);
  return VT_SEL(x == 0.0, VT_K(x, -__builtin_inf()), r);
}

/* log(1 + f) - f + f^2 / 2 = s (f^2 / 2 + R(s^2)) with s = f / (2 + f); error 2^-59. */
VT_FN VF VT(log_tail)(VF f, VF half_square) {
  VF s = f / (f + 2.0);
  VF v = s * s;
  VF q = VT_K(v, 0x1.2f12e3a413735p-3);
  q = VT_H(q, v, 0x1.39a07591055dep-3);
  q = VT_H(q, v, 0x1.74664ac0e8e29p-3);
  q = VT_H(q, v, 0x1.c71c51d3a29d5p-3);
  q = VT_H(q, v, 0x1.249249422de63p-2);
  q = VT_H(q, v, 0x1.999999997f9d6p-2);
  q = VT_H(q, v, 0x1.5555555555593p-1);
  return s * VT_FMA(q, v, half_square);
}

/* k ln 2 + log(1 + f). */
VT_FN VF VT(log_join)(VF f, VF k) {
  VF h = f * f * 0.5;
  VF t = VT_FMA(k, VT_K(f, 0x1.abc9e3b39803fp-56), VT(log_tail)(f, h));
  return VT_FMA(k, VT_K(f, 0x1.62e42fefa39efp-1), f - (h - t));
}

VT_FN VF VT(log)(VF x) {
  VF k;
  VF f = VT(log_split)(x, &k);
  return VT(log_special)(x, VT(log_join)(f, k));
}

/* head + (hi + lo) * (c + cl), where hi + lo = log(1 + f) and head is 0 or larger than the product. */
VT_FN VF VT(log_rebase)(VF f, VF head, VF rest, double c, double cl) {
  VF h = f * f * 0.5;
  VF hi = f - h;
  VF lo = ((f - hi) - h) + VT(log_tail)(f, h);
  VF w = VT_FMA(hi, VT_K(f, c), head);
  VF e = VT_FMA(hi, VT_K(f, c), head - w);
  return w + (e + VT_FMA(hi, VT_K(f, cl), VT_FMA(lo, VT_K(f, c), rest)));
}

VT_FN VF VT(log2)(VF x) {
  VF k;
  VF f = VT(log_split)(x, &k);
  VF r = VT(log_rebase)(f, k, VT_K(f, 0.0), 0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56);
  return VT(log_special)(x, r);
}

/* The head of log10(2) has 21 zero bits at its end, so k times it is exact. */
VT_FN VF VT(log10)(VF x) {
  VF k;
  VF f = VT(log_split)(x, &k);
  VF head = k * 0x1.34413509f6000p-2;
  VF r = VT(log_rebase)(f, head, k * 0x1.9fef311f12b36p-42, 0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57);
  return VT(log_special)(x, r);
}

/* 1 + x = 2^k (1 + f): f = x 2^-k + (2^-k - 1) rounds once and is exact where the result is small. */
VT_FN VF VT(log1p_finite)(VF x) {
  VU ix = (VU)(x + 1.0) - 0x3fe6a09e667f3bcdull;
  VU e = (ix + (1024ull << 52)) >> 52;
  VF s = (VF)(0x4010000000000000ull - ((e - 1024ull) << 52));
  VF f = VT_FMA(x * 0.25, s, VT_FMA(s, VT_K(x, 0.25), VT_K(x, -1.0)));
  return VT(log_join)(f, VT(from_biased)(e + 1024ull));
}

VT_FN VF VT(log1p)(VF x) {
  VF r = VT(log1p_finite)(x);
  r = VT_SEL(__builtin_elementwise_abs(x) < 0x1p-54, x, r);
  r = VT_SEL(x == __builtin_inf(), x, r);
  r = VT_SEL(~(VI)(x >= -1.0), VT_K(x, __builtin_nan("")), r);
  return VT_SEL(x == -1.0, VT_K(x, -__builtin_inf()), r);
}

/* max(x, 0) + log1p(exp(-|x|)). */
VT_FN VF VT(softplus)(VF x) {
  VF e = VT(exp)(-__builtin_elementwise_abs(x));
  VF l = VT_SEL(e < 0x1p-54, e, VT(log1p_finite)(e));
  return VT_MAX(x, 0.0) + l;
}

/* With g = (e^|x| - 1) / 4, finite up to the overflow of sinh: sinh |x| = 2 g + g / (2 g + 1/2). */
VT_FN VF VT(sinh)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VF c = VT_MIN(a, 710.5);
  VF z, n;
  VF r = VT(exp_split)(c, &z, &n);
  VF s = (VF)(((VU)z << 52) + 0x3fd0000000000000ull);
  VF g = VT_FMA(s, VT(expm1_poly)(r), s - 0.25);
  VF h = g + g;
  VF y = h + g / (h + 0.5);
  y = VT_SEL(a < 0x1p-27, a, y);
  return __builtin_elementwise_copysign(y, x);
}

/* With q = e^|x| / 4: cosh x = 2 q + 1 / (8 q). */
VT_FN VF VT(cosh)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 710.5);
  VF p = VT(exp_poly)(VT(exp_split)(a, &z, &n));
  VF q = p * (VF)(((VU)z << 52) + 0x3fd0000000000000ull);
  return VT_FMA(q, VT_K(x, 2.0), 0.125 / q);
}
