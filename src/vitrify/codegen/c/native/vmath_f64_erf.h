/* f64: the error function and the activations made of it. */

/* The upper tail of the normal distribution divided by e^(-y^2 / 2), for 0 <= y <= 39: a polynomial in
 * (5 - y) / (5 + y), times 1 / (5 + y). */
VT_FN VF VT(normal_tail)(VF y) {
  VF u = 1.0 / (y + 5.0);
  VF q = VT_FMA(y * -2.0, u, VT_K(y, 1.0));
  VF p = VT_K(q, 0x1.9aa34cc838a27p-32);
  p = VT_H(p, q, -0x1.39342d7af1097p-30);
  p = VT_H(p, q, -0x1.2ff645a1b544ap-29);
  p = VT_H(p, q, 0x1.70ba70f37629dp-27);
  p = VT_H(p, q, 0x1.26980efaabf7ap-27);
  p = VT_H(p, q, -0x1.2ce34f6a2604fp-24);
  p = VT_H(p, q, -0x1.59870a1db8804p-25);
  p = VT_H(p, q, 0x1.d465fa97939f5p-22);
  p = VT_H(p, q, 0x1.674b3250fb564p-22);
  p = VT_H(p, q, -0x1.73e048e346521p-19);
  p = VT_H(p, q, -0x1.0b14eebc317b4p-18);
  p = VT_H(p, q, 0x1.17df1082f01edp-16);
  p = VT_H(p, q, 0x1.a17013c52967bp-15);
  p = VT_H(p, q, -0x1.f21492a09dad2p-15);
  p = VT_H(p, q, -0x1.1daf1ae150227p-11);
  p = VT_H(p, q, -0x1.a2503778cf63ep-11);
  p = VT_H(p, q, 0x1.88590e985fbcp-9);
  p = VT_H(p, q, 0x1.54b4d4f48aec8p-6);
  p = VT_H(p, q, 0x1.1b1c254ca3f75p-4);
  p = VT_H(p, q, 0x1.51f6329f01ba2p-3);
  p = VT_H(p, q, 0x1.410ed5f87594cp-2);
  p = VT_H(p, q, 0x1.fb31653876f89p-2);
  p = VT_H(p, q, 0x1.54ad03f27ca18p-1);
  p = VT_H(p, q, 0x1.89d3abe1f95aep-1);
  return p * u;
}

/* e^(-h - l) with h >= 0 and l its small tail; z and n carry the scaling by 2^n. */
VT_FN VF VT(exp_neg)(VF h, VF l, VF *z, VF *n) {
  return VT(exp_poly)(VT(exp_split)(-h, z, n) - l);
}

/* erfc(a) for 0 <= a <= 27.5. */
VT_FN VF VT(erfc_positive)(VF a) {
  VF z, n;
  VF h = a * a;
  VF l = VT_FMA(a, a, -h);
  VF e = VT(exp_neg)(h, l, &z, &n);
  return VT(scale)(e * 2.0 * VT(normal_tail)(a * 0x1.6a09e667f3bcdp+0), z, n);
}

/* erf(a) for 0 <= a < 1. */
VT_FN VF VT(erf_small)(VF a) {
  VF s = a * a;
  VF p = VT_K(s, 0x1.4542fd0b72b21p-33);
  p = VT_H(p, s, -0x1.cb2f665f87e99p-30);
  p = VT_H(p, s, 0x1.140d07fffe3e1p-26);
  p = VT_H(p, s, -0x1.63b64dbed8ddap-23);
  p = VT_H(p, s, 0x1.ba6cb05f5ec97p-20);
  p = VT_H(p, s, -0x1.f4dd2854dba72p-17);
  p = VT_H(p, s, 0x1.f9a3bb502a2c2p-14);
  p = VT_H(p, s, -0x1.c02db93da84c5p-11);
  p = VT_H(p, s, 0x1.565bcd2c80147p-8);
  p = VT_H(p, s, -0x1.b82ce3135519cp-6);
  p = VT_H(p, s, 0x1.ce2f21a0458dcp-4);
  p = VT_H(p, s, -0x1.812746b037a25p-2);
  p = VT_H(p, s, 0x1.06eba8214db69p-3);
  return VT_FMA(p, a, a);
}

VT_FN VF VT(erf)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 6.0);
  VF y = VT_SEL(a < 1.0, VT(erf_small)(a), 1.0 - VT(erfc_positive)(a));
  return __builtin_elementwise_copysign(y, x);
}

VT_FN VF VT(erfc)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 27.5);
  VF t = VT(erfc_positive)(a);
  VF y = VT_SEL(x < 0.0, 2.0 - t, t);
  VI small = a < 0.46875;
  return VT_SEL(small, 1.0 - __builtin_elementwise_copysign(VT(erf_small)(a), x), y);
}

/* x <= 0 and x > 0 at once: max(x, 0) - |x| tail(|x|), accurate relative to the result on both sides.
 * Near zero the series of erf is closer. */
VT_FN VF VT(gelu)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 39.0);
  VF h = a * a;
  VF l = VT_FMA(a, a, -h);
  VF e = VT(exp_neg)(h * 0.5, l * 0.5, &z, &n);
  VF t = VT(scale)(e * (VT(normal_tail)(a) * a), z, n);
  VF y = VT_MAX(x, 0.0) - t;
  VF half = x * 0.5;
  VF s = VT(erf_small)(VT_MIN(a, 0.75) * 0x1.6a09e667f3bcdp-1);
  VF near = VT_FMA(half, __builtin_elementwise_copysign(s, x), half);
  return __builtin_elementwise_copysign(VT_SEL(a < 0.75, near, y), x);
}

/* x sigmoid(u) with u = sqrt(8 / pi) (x + 0.044715 x^3) carried as a sum of two floats. */
VT_FN VF VT(gelu_tanh)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 23.0);
  VF s = a * a;
  VF sl = VT_FMA(a, a, -s);
  VF c = VT_K(x, 0x1.2444f2a4d8b4bp-4);
  VF b = VT_K(x, 0x1.9884533d43651p+0);
  VF v = s * c;
  VF w = v + b;
  VF t = w - v;
  VF wl = (v - (w - t)) + (b - t) + VT_FMA(s, c, -v);
  wl = wl + VT_FMA(sl, c, VT_FMA(s, VT_K(x, -0x1.6c843a29d1c7p-61), VT_K(x, -0x1.cbc0d30ebfd15p-54)));
  VF u = w * a;
  VF ul = VT_FMA(w, a, -u) + wl * a;
  VF p = VT(exp_neg)(u, ul, &z, &n);
  VF e = VT(scale)(p, z, n);
  VF xe = VT(scale)(p * -a, z, n);
  return VT_SEL(~(VI)(x <= 23.0), x, VT(over_one_plus)(VT_SEL(x < 0.0, xe, x), e));
}
