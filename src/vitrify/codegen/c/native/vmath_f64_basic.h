/* f64: roots, roundings and the remainder. */

VT_FN VF VT(sqrt)(VF x) { return __builtin_elementwise_sqrt(x); }

VT_FN VF VT(rsqrt)(VF x) { return 1.0 / __builtin_elementwise_sqrt(x); }

VT_FN VF VT(floor)(VF x) { return __builtin_elementwise_floor(x); }

VT_FN VF VT(ceil)(VF x) { return __builtin_elementwise_ceil(x); }

VT_FN VF VT(round)(VF x) { return __builtin_elementwise_roundeven(x); }

VT_FN VF VT(trunc)(VF x) { return __builtin_elementwise_trunc(x); }

/* x = 2^(3 k) m with 1 <= m < 8; r = m^(-1/3) from a polynomial and one Halley step, y = m r^2, and a Newton
 * step on y^3 = m with the square of y in two floats. */
VT_FN VF VT(cbrt)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VI sub = a < 0x1p-1022;
  VU b = (VU)VT_SEL(sub, a * 0x1p54, a);
  VF t = VT(from_biased)(b >> 52) + (2048.0 + 2049.0);
  VF k = __builtin_elementwise_floor((t + 0.5) * 0x1.5555555555555p-2);
  VF j = VT_FMA(k, VT_K(x, -3.0), t);
  VF m = (VF)((b & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  VF r = VT_K(m, 0x1.d46f73ce5f0dep-6);
  r = VT_H(r, m, -0x1.c518359c37a7ep-3);
  r = VT_H(r, m, 0x1.641622801217dp-1);
  r = VT_H(r, m, -0x1.2c41c09ec293bp+0);
  r = VT_H(r, m, 0x1.ab857fe77369dp+0);
  VF w = VT_SEL(j == 1.0, VT_K(x, 0x1.965fea53d6e3dp-1), VT_K(x, 0x1.428a2f98d728bp-1));
  r = VT_SEL(j == 0.0, r, r * w);
  m = VT_SEL(j == 0.0, m, m * VT_SEL(j == 1.0, VT_K(x, 2.0), VT_K(x, 4.0)));
  VF h = VT_FMA(-m * r, r * r, VT_K(x, 1.0));
  r = VT_FMA(r * h, VT_FMA(h, VT_K(x, 0x1.c71c71c71c71cp-3), VT_K(x, 0x1.5555555555555p-2)), r);
  VF s = r * r;
  VF y = m * s;
  VF q = y * y;
  VF e = VT_FMA(-q, y, m) - VT_FMA(y, y, -q) * y;
  y = VT_FMA(e * s, VT_K(x, 0x1.5555555555555p-2), y);
  VU p = (VU)(k + (0x1.8p52 - 1024.0 + 1023.0)) << 52;
  y = y * (VF)p * VT_SEL(sub, VT_K(x, 0x1p-18), VT_K(x, 1.0));
  y = VT_SEL((a > 0.0) & (a < __builtin_inf()), y, a);
  return __builtin_elementwise_copysign(y, x);
}

/* floor(log2 v) + 4096 for a positive finite v. */
VT_FN VU VT(exponent)(VF v) {
  VI sub = v < 0x1p-1022;
  VU b = (VU)VT_SEL(sub, v * 0x1p54, v) >> 52;
  return b + 3073ull - ((VU)sub & 54ull);
}

/* Long division, up to 52 bits of the quotient at a time; every fma is exact. Most lanes need one round. */
VT_FN VF VT(fmod)(VF x, VF y) {
  VF r = __builtin_elementwise_abs(x);
  VF b = __builtin_elementwise_abs(y);
  VI valid = (r < __builtin_inf()) & (b > 0.0);
  VI active = valid & (r >= b);
  while (__builtin_reduce_or(active)) {
    VI d = (VI)(VT(exponent)(r) - VT(exponent)(b)) - 52ll;
    VU k = (VU)(d & (VI)(d > 0ll) & active);
    VU half = k >> 1;
    VF c = b * (VF)((half + 1023ull) << 52) * (VF)((k - half + 1023ull) << 52);
    VF q = __builtin_elementwise_trunc(r / c);
    VF n = VT_FMA(-q, c, r);
    n = VT_SEL(n < 0.0, n + c, n);
    r = VT_SEL(active, n, r);
    active = active & (r >= b);
  }
  VF result = __builtin_elementwise_copysign(r, x);
  return VT_SEL(valid, result, VT_K(x, __builtin_nan("")));
}
