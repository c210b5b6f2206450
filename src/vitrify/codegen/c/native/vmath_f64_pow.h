/* f64: powers.  log x is carried to about 2^-66 in two floats. */

/* log(x) as a returned head and *tail, for a finite positive x. */
VT_FN VF VT(log_pair)(VF x, VF *tail) {
  VF k;
  VF f = VT(log_split)(x, &k);
  VF d = f + 2.0;
  VF dl = f - (d - 2.0);
  VF i = 1.0 / d;
  VF s = f * i;
  VF sl = (VT_FMA(-s, d, f) - s * dl) * i;
  VF v = s * s;
  VF vl = VT_FMA(s, s, -v) + s * sl * 2.0;
  VF q = VT_K(v, 0x1.ead0f81bcbfdep-4);
  q = VT_H(q, v, 0x1.de3c24974b10ap-4);
  q = VT_H(q, v, 0x1.112076e63dbc5p-3);
  q = VT_H(q, v, 0x1.3b13649a4ae7cp-3);
  q = VT_H(q, v, 0x1.745d1829ef9d6p-3);
  q = VT_H(q, v, 0x1.c71c71c59594ap-3);
  q = VT_H(q, v, 0x1.2492492492f56p-2);
  q = VT_H(q, v, 0x1.9999999999996p-2);
  VF t = v * s;
  VF tl = VT_FMA(v, s, -t) + VT_FMA(v, sl, vl * s);
  VF c = VT_K(x, 0x1.5555555555555p-1);
  VF u = t * c;
  VF ul = VT_FMA(t, c, -u) + VT_FMA(tl, c, t * 0x1.5555555555555p-55);
  VF h = k * 0x1.62e42fee00000p-1;
  VF a = h + s * 2.0;
  VF al = (h - a) + s * 2.0;
  VF b = a + u;
  VF bl = (a - b) + u;
  VF l = al + bl + VT_FMA(t * v, q, VT_FMA(sl, VT_K(x, 2.0), ul));
  l = VT_FMA(k, VT_K(x, 0x1.a39ef35793c76p-33), l);
  VF r = b + l;
  *tail = (b - r) + l;
  return r;
}

/* The magnitude |x|^y. */
VT_FN VF VT(pow_magnitude)(VF a, VF y) {
  VF z, n, l;
  VF h = VT(log_pair)(a, &l);
  VI ordinary = (a > 0.0) & (a < __builtin_inf());
  VF limit = VT_SEL(a == 0.0, VT_K(a, -__builtin_inf()), a);
  h = VT_SEL(ordinary, h, limit);
  VF p = y * h;
  VF pl = VT_FMA(y, h, -p) + y * l;
  VF c = VT_MIN(p, 746.0);
  c = VT_MAX(c, -746.0);
  pl = VT_SEL((c == p) & ordinary, pl, VT_K(a, 0.0));
  VF r = VT(exp_split)(c, &z, &n) + pl;
  return VT(scale)(VT(exp_poly)(r), z, n);
}

VT_FN VF VT(pow)(VF x, VF y) {
  VF a = __builtin_elementwise_abs(x);
  VF r = VT(pow_magnitude)(a, y);
  VF half = y * 0.5;
  VI whole = __builtin_elementwise_trunc(y) == y;
  VI odd = whole & (__builtin_elementwise_trunc(half) != half);
  VI negative = (VI)x < 0;
  VI invalid = (x < 0.0) & (a < __builtin_inf()) & ~whole;
  r = VT_SEL((a == 1.0) & (y == y), VT_K(x, 1.0), r);
  r = VT_SEL(negative & odd, -r, r);
  r = VT_SEL(y != y, y, VT_SEL(x != x, x, r));
  r = VT_SEL(invalid & (y == y), VT_K(x, __builtin_nan("")), r);
  return VT_SEL((y == 0.0) | (x == 1.0), VT_K(x, 1.0), r);
}
