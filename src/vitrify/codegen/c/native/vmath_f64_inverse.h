/* f64: inverse trigonometric and hyperbolic functions. */

/* (asin(t) / t - 1) on 0 <= t <= 1/2, from v = t^2. */
VT_FN VF VT(asin_poly)(VF v) {
  VF p = VT_K(v, 0x1.105c3dd338a68p-5);
  p = VT_H(p, v, -0x1.6665ce3a7af9dp-6);
  p = VT_H(p, v, 0x1.6c70e17c1c94ap-6);
  p = VT_H(p, v, 0x1.cd762e2e50355p-9);
  p = VT_H(p, v, 0x1.628e8dbe699ffp-7);
  p = VT_H(p, v, 0x1.7556a41fb6f27p-7);
  p = VT_H(p, v, 0x1.ca23c274ef849p-7);
  p = VT_H(p, v, 0x1.1c49d15db3df3p-6);
  p = VT_H(p, v, 0x1.6e8be00aa93b2p-6);
  p = VT_H(p, v, 0x1.f1c71a8cb3c3dp-6);
  p = VT_H(p, v, 0x1.6db6db722998dp-5);
  p = VT_H(p, v, 0x1.333333332df2p-4);
  p = VT_H(p, v, 0x1.5555555555578p-3);
  return p * v;
}

/* |x| <= 1/2 directly; above, asin x = pi/2 - 2 asin(sqrt((1 - x) / 2)). */
VT_FN VF VT(asin)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VI big = a > 0.5;
  VF v = VT_SEL(big, (1.0 - a) * 0.5, a * a);
  VF t = VT_SEL(big, __builtin_elementwise_sqrt(v), a);
  VF y = VT_FMA(VT(asin_poly)(v), t, t);
  VF z = 0x1.921fb54442d18p+0 - VT_FMA(y, VT_K(x, 2.0), VT_K(x, -0x1.1a62633145c07p-54));
  return __builtin_elementwise_copysign(VT_SEL(big, z, y), x);
}

VT_FN VF VT(acos)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VI big = a > 0.5;
  VF v = VT_SEL(big, (1.0 - a) * 0.5, a * a);
  VF t = VT_SEL(big, __builtin_elementwise_sqrt(v), x);
  VF p = VT(asin_poly)(v) * t;
  VF small = 0x1.921fb54442d18p+0 - (x - (0x1.1a62633145c07p-54 - p));
  VF y = (t + p) * 2.0;
  VF left = 0x1.921fb54442d18p+1 - (y - 0x1.1a62633145c07p-53);
  return VT_SEL(big, VT_SEL(x < 0.0, left, y), small);
}

/* atan(t) on 0 <= t <= 1. */
VT_FN VF VT(atan_unit)(VF t) {
  VF s = t * t;
  VF p = VT_K(s, 0x1.c4c9db45faf19p-17);
  p = VT_H(p, s, -0x1.44b9376e778p-13);
  p = VT_H(p, s, 0x1.ba52409027e92p-11);
  p = VT_H(p, s, -0x1.7eb39f46a6c82p-9);
  p = VT_H(p, s, 0x1.dc0f84f1e7ecdp-8);
  p = VT_H(p, s, -0x1.ca9e43fbb6e2ep-7);
  p = VT_H(p, s, 0x1.69db79f3b3ff6p-6);
  p = VT_H(p, s, -0x1.eb4b3573603bdp-6);
  p = VT_H(p, s, 0x1.2c98a1dca21acp-5);
  p = VT_H(p, s, -0x1.59d82830b79e1p-5);
  p = VT_H(p, s, 0x1.82eebfd39f8a5p-5);
  p = VT_H(p, s, -0x1.ae64512b0fdeep-5);
  p = VT_H(p, s, 0x1.e1bcf869eec8ep-5);
  p = VT_H(p, s, -0x1.110e6d9efcaefp-4);
  p = VT_H(p, s, 0x1.3b136a187bcd8p-4);
  p = VT_H(p, s, -0x1.745d11fb41dcfp-4);
  p = VT_H(p, s, 0x1.c71c7184289dp-4);
  p = VT_H(p, s, -0x1.24924923923f6p-3);
  p = VT_H(p, s, 0x1.9999999995aebp-3);
  p = VT_H(p, s, -0x1.555555555552ap-2);
  return VT_FMA(p * s, t, t);
}

VT_FN VF VT(atan)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VI big = a > 1.0;
  VF y = VT(atan_unit)(VT_SEL(big, 1.0 / a, a));
  VF z = 0x1.921fb54442d18p+0 - (y - 0x1.1a62633145c07p-54);
  return __builtin_elementwise_copysign(VT_SEL(big, z, y), x);
}

/* atan of the smaller over the larger of |y| and |x|, then reflected at the diagonal and at the y axis. */
VT_FN VF VT(atan2)(VF y, VF x) {
  VF a = __builtin_elementwise_abs(y);
  VF b = __builtin_elementwise_abs(x);
  VI steep = a > b;
  VF t = VT_SEL(steep, b, a) / VT_SEL(steep, a, b);
  t = VT_SEL((a == b) & (a == __builtin_inf()), VT_K(x, 1.0), t);
  t = VT_SEL((a == b) & (a == 0.0), a, t);
  VF p = VT(atan_unit)(t);
  p = VT_SEL(steep, 0x1.921fb54442d18p+0 - (p - 0x1.1a62633145c07p-54), p);
  p = VT_SEL((VI)x < 0, 0x1.921fb54442d18p+1 - (p - 0x1.1a62633145c07p-53), p);
  return __builtin_elementwise_copysign(p, y);
}

/* log1p(|x| + x^2 / (1 + sqrt(1 + x^2))), or log(2 |x|) where the square would lose or overflow. */
VT_FN VF VT(asinh)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VI big = a > 0x1p28;
  VF c = VT_SEL(big, VT_K(x, 1.0), a);
  VF s = c * c;
  VF u = c + s / (__builtin_elementwise_sqrt(s + 1.0) + 1.0);
  VF r = VT(log1p_finite)(VT_SEL(big, VT_MIN(a, 0x1.fffffffffffffp+1023) - 1.0, u));
  r = r + VT_SEL(big, VT_K(x, 0x1.62e42fefa39efp-1), VT_K(x, 0.0));
  r = VT_SEL(a < 0x1p-28, a, r);
  r = VT_SEL(a < __builtin_inf(), r, a);
  return __builtin_elementwise_copysign(r, x);
}

/* With t = x - 1: log1p(t + sqrt(t^2 + 2 t)), or log(2 x). */
VT_FN VF VT(acosh)(VF x) {
  VI big = x > 0x1p28;
  VF t = VT_SEL(big, VT_K(x, 1.0), x) - 1.0;
  VF u = t + __builtin_elementwise_sqrt(VT_FMA(t, t, t + t));
  VF r = VT(log1p_finite)(VT_SEL(big, VT_MIN(x, 0x1.fffffffffffffp+1023) - 1.0, u));
  r = r + VT_SEL(big, VT_K(x, 0x1.62e42fefa39efp-1), VT_K(x, 0.0));
  r = VT_SEL(x == __builtin_inf(), x, r);
  return VT_SEL(x >= 1.0, r, VT_K(x, __builtin_nan("")));
}

/* log1p(2 |x| / (1 - |x|)) / 2. */
VT_FN VF VT(atanh)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VF r = VT(log1p_finite)((a + a) / (1.0 - a)) * 0.5;
  r = VT_SEL(a < 0x1p-28, a, r);
  r = VT_SEL(a == 1.0, VT_K(x, __builtin_inf()), r);
  r = VT_SEL(a <= 1.0, r, VT_K(x, __builtin_nan("")));
  return __builtin_elementwise_copysign(r, x);
}
