/* f32: the error function and the activations made of it. */

/* |x| < 1.1: x + x P(x^2). Above: 1 - Q(|x|)^8, where Q approximates erfc^(1/8); the power costs three
 * products instead of an exponential and its rounding is scaled down by erfc <= 0.12. */
VT_FN VF VT(erf)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  VF b = VT_MIN(a, 3.93f);
  VF s = b * b;
  VF p = VT_K(s, 0x1.2f80a4p-14f);
  p = VT_H(p, s, -0x1.9a3ddep-11f);
  p = VT_H(p, s, 0x1.52ac24p-8f);
  p = VT_H(p, s, -0x1.b7cdep-6f);
  p = VT_H(p, s, 0x1.ce2aa6p-4f);
  p = VT_H(p, s, -0x1.812734p-2f);
  p = VT_H(p, s, 0x1.06eba8p-3f);
  p = VT_FMA(p, b, b);
  VF q = VT_K(b, 0x1.95c51cp-17f);
  q = VT_H(q, b, 0x1.ddbc12p-18f);
  q = VT_H(q, b, -0x1.cf45bep-10f);
  q = VT_H(q, b, 0x1.6a523ap-7f);
  q = VT_H(q, b, -0x1.159fep-7f);
  q = VT_H(q, b, -0x1.065db8p-4f);
  q = VT_H(q, b, -0x1.2673a2p-3f);
  q = VT_H(q, b, 0x1.00258ep+0f);
  q = q * q;
  q = q * q;
  q = VT_FMA(-q, q, VT_K(x, 1.0f));
  return __builtin_elementwise_copysign(VT_SEL(a < 1.1f, p, q), x);
}

/* The upper tail of the normal distribution divided by e^(-y^2 / 2), for 0 <= y <= 15: a polynomial in
 * (4 - y) / (4 + y), times 1 / (4 + y). */
VT_FN VF VT(normal_tail)(VF y) {
  VF u = 1.0f / (y + 4.0f);
  VF q = VT_FMA(y * -2.0f, u, VT_K(y, 1.0f));
  VF p = VT_K(q, 0x1.196e3p-13f);
  p = VT_H(p, q, 0x1.6e49a4p-13f);
  p = VT_H(p, q, -0x1.9b260ep-10f);
  p = VT_H(p, q, -0x1.cc173p-9f);
  p = VT_H(p, q, 0x1.ed17cep-8f);
  p = VT_H(p, q, 0x1.eed34ap-5f);
  p = VT_H(p, q, 0x1.7e002p-3f);
  p = VT_H(p, q, 0x1.8c6d9ep-2f);
  p = VT_H(p, q, 0x1.373e38p-1f);
  p = VT_H(p, q, 0x1.82b4bcp-1f);
  return p * u;
}

/* e^(-h - l) with h >= 0 and l its small tail; z and n carry the scaling by 2^n. */
VT_FN VF VT(exp_neg)(VF h, VF l, VF *z, VF *n) {
  return VT(exp_poly)(VT(exp_split)(-h, z, n) - l);
}

/* x <= 0 and x > 0 at once: max(x, 0) - |x| tail(|x|), accurate relative to the result on both sides. */
VT_FN VF VT(gelu)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 15.0f);
  VF h = a * a;
  VF l = VT_FMA(a, a, -h);
  VF e = VT(exp_neg)(h * 0.5f, l * 0.5f, &z, &n);
  VF t = VT(scale)(e * (VT(normal_tail)(a) * a), z, n);
  return __builtin_elementwise_copysign(VT_MAX(x, 0.0f) - t, x);
}

VT_FN VF VT(erfc)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 10.5f);
  VF h = a * a;
  VF l = VT_FMA(a, a, -h);
  VF e = VT(exp_neg)(h, l, &z, &n);
  VF t = VT(scale)(e * 2.0f * VT(normal_tail)(a * 0x1.6a09e6p+0f), z, n);
  return VT_SEL(x < 0.0f, 2.0f - t, t);
}

/* x sigmoid(u) with u = sqrt(8 / pi) (x + 0.044715 x^3) carried as a sum of two floats. */
VT_FN VF VT(gelu_tanh)(VF x) {
  VF z, n;
  VF a = __builtin_elementwise_abs(x);
  a = VT_MIN(a, 11.0f);
  VF s = a * a;
  VF sl = VT_FMA(a, a, -s);
  VF c = VT_K(x, 0x1.2444f2p-4f);
  VF b = VT_K(x, 0x1.988454p+0f);
  VF v = s * c;
  VF w = v + b;
  VF t = w - v;
  VF wl = (v - (w - t)) + (b - t) + VT_FMA(s, c, -v);
  wl = wl + VT_FMA(sl, c, VT_FMA(s, VT_K(x, 0x1.49b16ap-29f), VT_K(x, -0x1.857936p-25f)));
  VF u = w * a;
  VF ul = VT_FMA(w, a, -u) + wl * a;
  VF p = VT(exp_neg)(u, ul, &z, &n);
  VF e = VT(scale)(p, z, n);
  VF xe = VT(scale)(p * -a, z, n);
  return VT_SEL(~(VI)(x <= 11.0f), x, VT(over_one_plus)(VT_SEL(x < 0.0f, xe, x), e));
}
