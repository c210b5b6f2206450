/* f32: sine and cosine over the whole range. */

/* x = n pi / 2 + r with |r| <= pi / 4 and a little; q holds n modulo 4 in its low bits. Above 2^17 the
 * lanes that need it are reduced one by one. */
VT_FN VF VT(trig_split)(VF x, VU *q) {
  VF z = VT_H(x, VT_K(x, 0x1.45f306p-1f), 0x1.8p23f);
  VF n = z - 0x1.8p23f;
  VF r = VT_FMA(n, VT_K(x, -0x1.921fb6p+0f), x);
  r = VT_FMA(n, VT_K(x, 0x1.777a5cp-25f), r);
  r = VT_FMA(n, VT_K(x, 0x1.ee59dap-50f), r);
  *q = (VU)z;
  VI large = ~(VI)(__builtin_elementwise_abs(x) <= 0x1p17f);
  if (__builtin_reduce_or(large)) {
    for (int i = 0; i < VT_L; i++) {
      if (large[i]) {
        double lo;
        long long quadrant;
        r[i] = (float)vt_reduce_angle((double)x[i], &lo, &quadrant);
        (*q)[i] = (unsigned)quadrant;
      }
    }
  }
  return r;
}

/* sin(r + q pi / 2). */
VT_FN VF VT(sin_quadrant)(VF r, VU q) {
  VF s = r * r;
  VF c = VT_K(r, 0x1.98e616p-16f);
  c = VT_H(c, s, -0x1.6c06dcp-10f);
  c = VT_H(c, s, 0x1.55553cp-5f);
  c = VT_H(c, s, -0.5f);
  c = VT_H(c, s, 1.0f);
  VF p = VT_K(r, 0x1.80a05ap-19f);
  p = VT_H(p, s, -0x1.a0690cp-13f);
  p = VT_H(p, s, 0x1.111182p-7f);
  p = VT_H(p, s, -0x1.555556p-3f);
  p = VT_FMA(p * s, r, r);
  VF y = VT_SEL((VI)(q & 1u) != 0, c, p);
  return (VF)((VU)y ^ (q & 2u) << 30);
}

VT_FN VF VT(sin)(VF x) {
  VU q;
  VF r = VT(trig_split)(x, &q);
  return VT_SEL(x == 0.0f, x, VT(sin_quadrant)(r, q));
}

VT_FN VF VT(cos)(VF x) {
  VU q;
  VF r = VT(trig_split)(x, &q);
  return VT(sin_quadrant)(r, q + 1u);
}
