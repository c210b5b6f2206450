/* f32: exponentials, logarithms and what is made of them.  See docs/vector-math.md for the bounds. */

/* p * 2^n rounded once, subnormal results included; n is an integer below 252 in magnitude and
 * z = n + 1.5 * 2^23. */
VT_FN VF VT(scale)(VF p, VF z, VF n) {
#if VT_HAS_SCALEF
  (void)z;
  return VT_SCALEF;
#else
  (void)n;
  VI i = (VI)((VU)z - 0x4b400000u);
  VI h = i >> 1;
  VU a = ((VU)h + 127u) << 23;
  VU b = ((VU)(i - h) + 127u) << 23;
  return p * (VF)a * (VF)b;
#endif
}

/* x = n ln 2 + r with |r| <= ln 2 / 2; the first product is exact under fma. */
VT_FN VF VT(exp_split)(VF x, VF *z, VF *n) {
  *z = VT_H(x, VT_K(x, 0x1.715476p+0f), 0x1.8p23f);
  *n = *z - 0x1.8p23f;
  VF r = VT_FMA(*n, VT_K(x, -0x1.62e43p-1f), x);
  return VT_FMA(*n, VT_K(x, 0x1.05c61p-29f), r);
}

/* e^r on |r| <= ln 2 / 2, approximation error 2^-28. */
VT_FN VF VT(exp_poly)(VF r) {
  VF p = VT_K(r, 0x1.6ac75ep-10f);
  p = VT_H(p, r, 0x1.123dep-7f);
  p = VT_H(p, r, 0x1.555858p-5f);
  p = VT_H(p, r, 0x1.55548cp-3f);
  p = VT_H(p, r, 0x1.fffffcp-2f);
  p = VT_H(p, r, 1.0f);
  return VT_H(p, r, 1.0f);
}

VT_FN VF VT(exp)(VF x) {
  VF z, n;
  x = VT_MIN(x, 89.0f);
  VI gone = x < -104.0f; /* 0, which scaling would reach by an underflow that takes a hundred cycles */
  x = VT_SEL(gone, VT_K(x, 0.0f), x);
  VF r = VT(exp_split)(x, &z, &n);
  return VT_SEL(gone, VT_K(x, 0.0f), VT(scale)(VT(exp_poly)(r), z, n));
}

VT_FN VF VT(exp2)(VF x) {
  x = VT_MIN(x, 129.0f);
  x = VT_MAX(x, -151.0f);
  VF z = x + 0x1.8p23f;
  VF n = z - 0x1.8p23f;
  return VT(scale)(VT(exp_poly)((x - n) * 0x1.62e43p-1f), z, n);
}

/* e^r - 1 on |r| <= ln 2 / 2, relative error 2^-28.8. */
VT_FN VF VT(expm1_poly)(VF r) {
  VF q = VT_K(r, 0x1.a032ccp-13f);
  q = VT_H(q, r, 0x1.6d71f6p-10f);
  q = VT_H(q, r, 0x1.11118ap-7f);
  q = VT_H(q, r, 0x1.5554b2p-5f);
  q = VT_H(q, r, 0x1.555554p-3f);
  q = VT_H(q, r, 0.5f);
  return VT_FMA(r * r, q, r);
}

/* Doubled last, because 2^n of the largest n would overflow. */
VT_FN VF VT(expm1)(VF x) {
  VF c = VT_MIN(x, 89.0f);
  c = VT_MAX(c, -30.0f);
  VF z, n;
  VF p = VT(expm1_poly)(VT(exp_split)(c, &z, &n));
  VF s = (VF)(((VU)z << 23) + 0x3f000000u);
  VF h = VT_FMA(s, p, s - 0.5f);
  VI tiny = __builtin_elementwise_abs(x) < 0x1p-25f;
  return VT_SEL(tiny, x, h + h);
}

/* |x| < 0.6: x + x^3 Q(x^2). Above, with e = e^(-2|x|): 1 - 2 e / (1 + e), whose error shrinks with e. */
VT_FN VF VT(tanh)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 10.0f);
  VF s = a * a;
  VF q = VT_K(s, -0x1.82878ep-8f);
  q = VT_H(q, s, 0x1.54c3c4p-6f);
  q = VT_H(q, s, -0x1.b89abap-5f);
  q = VT_H(q, s, 0x1.1109bep-3f);
  q = VT_H(q, s, -0x1.55553ep-2f);
  q = VT_FMA(q * s, a, a);
  VF p = VT(exp_poly)(VT(exp_split)(a * -2.0f, &z, &n));
  VF e = p * (VF)(((VU)z << 23) + 0x3f800000u);
  VF y = 1.0f - (e + e) / (e + 1.0f);
  return __builtin_elementwise_copysign(VT_SEL(a < 0.6f, q, y), x);
}

/* a / (1 + e) for 0 <= e <= 1, the rounding of 1 + e put back to first order where e is small. */
VT_FN VF VT(over_one_plus)(VF a, VF e) {
  VF d = e + 1.0f;
  VF q = a / d;
  return VT_FMA(q, (d - 1.0f) - e, q);
}

/* Both signs from e = exp(-|x|), so that the small side keeps its relative accuracy. */
VT_FN VF VT(sigmoid)(VF x) {
  VF z, n;
  VF c = -__builtin_elementwise_abs(x);
  c = VT_MAX(c, -104.0f);
  VF r = VT(exp_split)(c, &z, &n);
  VF e = VT(scale)(VT(exp_poly)(r), z, n);
  return VT(over_one_plus)(VT_SEL(x < 0.0f, e, VT_K(x, 1.0f)), e);
}

/* x sigmoid(x); the factor x goes in before the scaling, so a subnormal e costs no accuracy. */
VT_FN VF VT(silu)(VF x) {
  VF z, n;
  VF c = -__builtin_elementwise_abs(x);
  c = VT_MAX(c, -112.0f);
  VF p = VT(exp_poly)(VT(exp_split)(c, &z, &n));
  VF e = VT(scale)(p, z, n);
  VF xe = VT(scale)(p * c, z, n);
  return VT_SEL(~(VI)(x <= 112.0f), x, VT(over_one_plus)(VT_SEL(x < 0.0f, xe, x), e));
}

/* x = 2^k m with m in [sqrt(1/2), sqrt 2): returns m - 1; subnormals are scaled up first. */
VT_FN VF VT(log_split)(VF x, VF *k) {
  VI sub = x < 0x1p-126f;
  VU ix = (VU)VT_SEL(sub, x * 0x1p24f, x) - 0x3f3504f3u;
  VI e = (VI)ix >> 23;
  VF m = (VF)((ix & 0x7fffffu) + 0x3f3504f3u);
  *k = VT_TO(e, VF) - VT_SEL(sub, VT_K(x, 24.0f), VT_K(x, 0.0f));
  return m - 1.0f;
}

/* A logarithm's value outside the finite positive numbers. */
VT_FN VF VT(log_special)(VF x, VF r) {
  r = VT_SEL(x == __builtin_inff(), x, r);
  r = VT_SEL(~(VI)(x >= 0.0f), VT_K(x, __builtin_nanf("")), r);
  return VT_SEL(x == 0.0f, VT_K(x, -__builtin_inff()), r);
}

/* log(1 + f) on [sqrt(1/2), sqrt 2) - 1, approximation error 2^-27.6. */
VT_FN VF VT(log_poly)(VF f) {
  VF q = VT_K(f, -0x1.382f88p-4f);
  q = VT_H(q, f, 0x1.0847fcp-3f);
  q = VT_H(q, f, -0x1.0f375p-3f);
  q = VT_H(q, f, 0x1.2271acp-3f);
  q = VT_H(q, f, -0x1.542772p-3f);
  q = VT_H(q, f, 0x1.99a3f2p-3f);
  q = VT_H(q, f, -0x1.000426p-2f);
  q = VT_H(q, f, 0x1.55555p-2f);
  q = VT_H(q, f, -0x1.fffff8p-2f);
  return VT_FMA(f * f, q, f);
}

VT_FN VF VT(log)(VF x) {
  VF k;
  VF f = VT(log_split)(x, &k);
  VF r = VT_FMA(k, VT_K(x, 0x1.62e43p-1f), VT(log_poly)(f));
  return VT(log_special)(x, r);
}

/* log2(1 + f) = f * (head + tail) + f^2 q, the head of log2(e) applied last. */
VT_FN VF VT(log2)(VF x) {
  VF k;
  VF f = VT(log_split)(x, &k);
  VF q = VT_K(f, -0x1.c26382p-4f);
  q = VT_H(q, f, 0x1.7d46f4p-3f);
  q = VT_H(q, f, -0x1.874836p-3f);
  q = VT_H(q, f, 0x1.a305acp-3f);
  q = VT_H(q, f, -0x1.eabd16p-3f);
  q = VT_H(q, f, 0x1.277e3cp-2f);
  q = VT_H(q, f, -0x1.715a72p-2f);
  q = VT_H(q, f, 0x1.ec7096p-2f);
  q = VT_H(q, f, -0x1.71547p-1f);
  VF t = VT_FMA(f * f, q, f * 0x1.4ae0cp-26f);
  VF r = VT_FMA(f, VT_K(f, 0x1.715476p+0f), t);
  return VT(log_special)(x, r + k);
}

VT_FN VF VT(log10)(VF x) {
  VF k;
  VF f = VT(log_split)(x, &k);
  VF q = VT_K(f, -0x1.0f293ap-5f);
  q = VT_H(q, f, 0x1.cb1a7cp-5f);
  q = VT_H(q, f, -0x1.d7268cp-5f);
  q = VT_H(q, f, 0x1.f88d8ep-5f);
  q = VT_H(q, f, -0x1.27743ep-4f);
  q = VT_H(q, f, 0x1.63cf24p-4f);
  q = VT_H(q, f, -0x1.bcbee6p-4f);
  q = VT_H(q, f, 0x1.287a72p-3f);
  q = VT_H(q, f, -0x1.bcb7aap-3f);
  VF t = VT_FMA(f * f, q, f * -0x1.5b235ep-27f);
  VF r = VT_FMA(f, VT_K(f, 0x1.bcb7b2p-2f), t);
  return VT(log_special)(x, VT_FMA(k, VT_K(f, 0x1.344136p-2f), r));
}

/* 1 + x = 2^k (1 + f): f = x 2^-k + (2^-k - 1) rounds once and is exact where the result is small. */
VT_FN VF VT(log1p_finite)(VF x) {
  VU ix = (VU)(x + 1.0f) - 0x3f3504f3u;
  VI e = (VI)ix >> 23;
  VF s = (VF)(0x40800000u - ((VU)e << 23));
  VF f = VT_FMA(x * 0.25f, s, VT_FMA(s, VT_K(x, 0.25f), VT_K(x, -1.0f)));
  VF k = VT_TO(e, VF);
  return VT_FMA(k, VT_K(x, 0x1.62e43p-1f), VT(log_poly)(f));
}

VT_FN VF VT(log1p)(VF x) {
  VF r = VT(log1p_finite)(x);
  r = VT_SEL(__builtin_elementwise_abs(x) < 0x1p-25f, x, r);
  r = VT_SEL(x == __builtin_inff(), x, r);
  r = VT_SEL(~(VI)(x >= -1.0f), VT_K(x, __builtin_nanf("")), r);
  return VT_SEL(x == -1.0f, VT_K(x, -__builtin_inff()), r);
}

/* max(x, 0) + log1p(exp(-|x|)). */
VT_FN VF VT(softplus)(VF x) {
  VF e = VT(exp)(-__builtin_elementwise_abs(x));
  VF l = VT_SEL(e < 0x1p-25f, e, VT(log1p_finite)(e));
  return VT_MAX(x, 0.0f) + l;
}

/* With g = (e^|x| - 1) / 4, finite up to the overflow of sinh: sinh |x| = 2 g + g / (2 g + 1/2). */
VT_FN VF VT(sinh)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VF c = VT_MIN(a, 89.5f);
  VF z, n;
  VF r = VT(exp_split)(c, &z, &n);
  VF s = (VF)(((VU)z << 23) + 0x3e800000u);
  VF g = VT_FMA(s, VT(expm1_poly)(r), s - 0.25f);
  VF h = g + g;
  VF y = h + g / (h + 0.5f);
  y = VT_SEL(a < 0x1p-12f, a, y);
  return __builtin_elementwise_copysign(y, x);
}

/* With q = e^|x| / 4: cosh x = 2 q + 1 / (8 q). */
VT_FN VF VT(cosh)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 89.5f);
  VF p = VT(exp_poly)(VT(exp_split)(a, &z, &n));
  VF q = p * (VF)(((VU)z << 23) + 0x3e800000u);
  return VT_FMA(q, VT_K(x, 2.0f), 0.125f / q);
}
