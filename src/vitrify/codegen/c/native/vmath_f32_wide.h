/* f32 functions that are computed in f64 and rounded once: less used, or (pow) ill-conditioned. */

VT_FN VF VT(tan)(VF x) { return VT_TO(VT64(tan)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(asin)(VF x) { return VT_TO(VT64(asin)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(acos)(VF x) { return VT_TO(VT64(acos)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(atan)(VF x) { return VT_TO(VT64(atan)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(atan2)(VF y, VF x) {
  return VT_TO(VT64(atan2)(VT_TO(y, VF64), VT_TO(x, VF64)), VF);
}

VT_FN VF VT(asinh)(VF x) { return VT_TO(VT64(asinh)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(acosh)(VF x) { return VT_TO(VT64(acosh)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(atanh)(VF x) { return VT_TO(VT64(atanh)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(cbrt)(VF x) { return VT_TO(VT64(cbrt)(VT_TO(x, VF64)), VF); }

VT_FN VF VT(fmod)(VF x, VF y) {
  return VT_TO(VT64(fmod)(VT_TO(x, VF64), VT_TO(y, VF64)), VF);
}

/* |x|^y in f64 with an error near 2^-32: log with one division, then e^r. */
VT_FN VF VT(pow_magnitude)(VF x, VF y) {
  VF64 k, z, n;
  VF64 a = VT_TO(x, VF64);
  VF64 f = VT64(log_split)(a, &k);
  VF64 s = f / (f + 2.0);
  VF64 v = s * s;
  VF64 q = VT_K(v, 0x1.911cb0293e36ep-3);
  q = VT_H(q, v, 0x1.c62a9e52c666bp-3);
  q = VT_H(q, v, 0x1.2494133c97a06p-2);
  q = VT_H(q, v, 0x1.999996a66c39ep-2);
  q = VT_H(q, v, 0x1.555555561f39cp-1);
  VF64 h = VT_FMA(q * v, s, s + s);
  h = VT_FMA(k, VT_K(a, 0x1.62e42fefa39efp-1), h);
  h = VT_SEL(a == 0.0, VT_K(a, -__builtin_inf()), VT_SEL(a == __builtin_inf(), a, h));
  VF64 p = VT_TO(y, VF64) * h;
  p = VT_MIN(p, 104.0);
  p = VT_MAX(p, -104.0);
  VF64 r = VT64(exp_split)(p, &z, &n);
  VF64 e = VT_K(r, 0x1.9f0924e4b1b51p-13);
  e = VT_H(e, r, 0x1.6d8d09ccff44bp-10);
  e = VT_H(e, r, 0x1.1112703e3da05p-7);
  e = VT_H(e, r, 0x1.55548dbf7283ep-5);
  e = VT_H(e, r, 0x1.555554439fcf8p-3);
  e = VT_H(e, r, 0x1.0000003a27f2cp-1);
  e = VT_H(e, r, 1.0);
  e = VT_H(e, r, 1.0);
  return VT_TO(e * (VF64)(((VU64)z << 52) + 0x3ff0000000000000ull), VF);
}

VT_FN VF VT(pow)(VF x, VF y) {
  VF a = __builtin_elementwise_abs(x);
  VF r = VT(pow_magnitude)(a, y);
  VF half = y * 0.5f;
  VI whole = __builtin_elementwise_trunc(y) == y;
  VI odd = whole & (__builtin_elementwise_trunc(half) != half);
  VI negative = (VI)x < 0;
  VI invalid = (x < 0.0f) & (a < __builtin_inff()) & ~whole;
  r = VT_SEL((a == 1.0f) & (y == y), VT_K(x, 1.0f), r);
  r = VT_SEL(negative & odd, -r, r);
  r = VT_SEL(y != y, y, VT_SEL(x != x, x, r));
  r = VT_SEL(invalid & (y == y), VT_K(x, __builtin_nanf("")), r);
  return VT_SEL((y == 0.0f) | (x == 1.0f), VT_K(x, 1.0f), r);
}
