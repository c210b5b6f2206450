/* f64: sine, cosine and tangent over the whole range. */

/* x = n pi / 2 + r + *lo with |r| <= pi / 4 and a little; q holds n modulo 4 in its low bits. Above 2^20 the
 * lanes that need it are reduced one by one. */
VT_FN VF VT(trig_split)(VF x, VF *lo, VU *q) {
  VF z = VT_H(x, VT_K(x, 0x1.45f306dc9c883p-1), 0x1.8p52);
  VF n = z - 0x1.8p52;
  VF h = VT_FMA(n, VT_K(x, -0x1.921fb54442d18p+0), x);
  VF w = n * 0x1.1a62633145c07p-54;
  VF wl = VT_FMA(n, VT_K(x, 0x1.1a62633145c07p-54), -w);
  VF r = h - w;
  VF b = r - h;
  VF e = (h - (r - b)) - (w + b);
  *lo = VT_FMA(n, VT_K(x, 0x1.f1976b7ed8fbcp-110), e - wl);
  *q = (VU)z;
  VI large = ~(VI)(__builtin_elementwise_abs(x) <= 0x1p20);
  if (__builtin_reduce_or(large)) {
    for (int i = 0; i < VT_L; i++) {
      if (large[i]) {
        double tail;
        long long quadrant;
        r[i] = vt_reduce_angle(x[i], &tail, &quadrant);
        (*lo)[i] = tail;
        (*q)[i] = (unsigned long long)quadrant;
      }
    }
  }
  return r;
}

/* sin(r + l) for |r| <= pi / 4. */
VT_FN VF VT(sin_poly)(VF r, VF l) {
  VF s = r * r;
  VF p = VT_K(s, -0x1.9f6f666d525p-41);
  p = VT_H(p, s, 0x1.6108b24f33db5p-33);
  p = VT_H(p, s, -0x1.ae642ad5dc022p-26);
  p = VT_H(p, s, 0x1.71de3a32aa01bp-19);
  p = VT_H(p, s, -0x1.a01a019ffdba8p-13);
  p = VT_H(p, s, 0x1.1111111111067p-7);
  p = VT_H(p, s, -0x1.5555555555555p-3);
  return r + VT_FMA(s * r, p, VT_FMA(s * -0.5, l, l));
}

/* cos(r + l) for |r| <= pi / 4. */
VT_FN VF VT(cos_poly)(VF r, VF l) {
  VF s = r * r;
  VF p = VT_K(s, 0x1.9c7e5168fce5ap-45);
  p = VT_H(p, s, -0x1.9371d2d4ac85ep-37);
  p = VT_H(p, s, 0x1.1eed6d79251fbp-29);
  p = VT_H(p, s, -0x1.27e4fb588df89p-22);
  p = VT_H(p, s, 0x1.a01a019ffb919p-16);
  p = VT_H(p, s, -0x1.6c16c16c16b2bp-10);
  p = VT_H(p, s, 0x1.5555555555555p-5);
  VF h = s * 0.5;
  VF w = 1.0 - h;
  return w + (((1.0 - w) - h) + VT_FMA(s * s, p, -(r * l)));
}

/* sin(r + l + q pi / 2). */
VT_FN VF VT(sin_quadrant)(VF r, VF l, VU q) {
  VF y = VT_SEL((VI)(q & 1ull) != 0, VT(cos_poly)(r, l), VT(sin_poly)(r, l));
  return (VF)((VU)y ^ (q & 2ull) << 62);
}

VT_FN VF VT(sin)(VF x) {
  VF l;
  VU q;
  VF r = VT(trig_split)(x, &l, &q);
  return VT_SEL(x == 0.0, x, VT(sin_quadrant)(r, l, q));
}

VT_FN VF VT(cos)(VF x) {
  VF l;
  VU q;
  VF r = VT(trig_split)(x, &l, &q);
  return VT(sin_quadrant)(r, l, q + 1ull);
}

VT_FN VF VT(tan)(VF x) {
  VF l;
  VU q;
  VF r = VT(trig_split)(x, &l, &q);
  VF s = VT(sin_poly)(r, l);
  VF c = VT(cos_poly)(r, l);
  VI odd = (VI)(q & 1ull) != 0;
  VF y = VT_SEL(odd, -c, s) / VT_SEL(odd, s, c);
  return VT_SEL(x == 0.0, x, y);
}
