/* Argument reduction of large angles, one lane at a time; only reached when a lane needs it. */

/* 64 zero bits, then the bits of 2 / pi after the binary point. */
static const unsigned long long vt_two_over_pi[20] = {
  0x0000000000000000ull, 0xa2f9836e4e441529ull, 0xfc2757d1f534ddc0ull, 0xdb6295993c439041ull,
  0xfe5163abdebbc561ull, 0xb7246e3a424dd2e0ull, 0x06492eea09d1921cull, 0xfe1deb1cb129a73eull,
  0xe88235f52ebb4484ull, 0xe99c7026b45f7e41ull, 0x3991d639835339f4ull, 0x9c845f8bbdf9283bull,
  0x1ff897ffde05980full, 0xef2f118b5a0a6d1full, 0x6d367ecf27cb09b7ull, 0x4f463f669e5fea2dull,
  0x7527bac7ebe5f17bull, 0x3d0739f78a5292eaull, 0x6bfb5fb11f8d5d08ull, 0x56033046fc7b6babull,
};

/* x = (4 j + q) pi / 2 + r + *lo with |r| <= pi / 4 for 1 <= |x| < inf (Payne and Hanek 1983): only the 192
 * bits of 2 / pi that matter modulo 4 are multiplied. Returns r; NaN for an infinity or a NaN. */
static inline double vt_reduce_angle(double x, double *lo, long long *quadrant) {
  _Pragma("clang fp contract(off)")
  union { double f; unsigned long long u; } bits = {x}, two;
  int exponent = (int)(bits.u >> 52 & 2047);
  *lo = 0.0;
  *quadrant = 0;
  if (exponent == 2047) return x - x;
  unsigned long long m = (bits.u & 0xfffffffffffffull) | 0x10000000000000ull;
  int at = exponent - 1075 - 2 + 64;
  const unsigned long long *t = vt_two_over_pi + (at >> 6);
  int s = at & 63;
  unsigned long long w0 = t[0] << s | t[1] >> 1 >> (63 - s);
  unsigned long long w1 = t[1] << s | t[2] >> 1 >> (63 - s);
  unsigned long long w2 = t[2] << s | t[3] >> 1 >> (63 - s);
  unsigned __int128 p2 = (unsigned __int128)m * w2, p1 = (unsigned __int128)m * w1 + (p2 >> 64);
  unsigned long long hi = m * w0 + (unsigned long long)(p1 >> 64), mid = (unsigned long long)p1;
  unsigned long long q = hi >> 62;
  unsigned __int128 f = ((unsigned __int128)hi << 64 | mid) << 2 | (unsigned long long)p2 >> 62;
  int negative = (int)(f >> 127);
  q += (unsigned)negative;
  if (negative) f = -f;
  int zeros = f >> 64 ? __builtin_clzll((unsigned long long)(f >> 64)) : 64;
  f <<= zeros;
  two.u = (unsigned long long)(1023 - 53 - zeros) << 52;
  double h = (double)(long long)(unsigned long long)(f >> 75) * two.f;
  double l = (double)(long long)((unsigned long long)(f >> 12) & 0x7fffffffffffffffull) * (two.f * 0x1p-63);
  if (negative != (int)(bits.u >> 63)) h = -h, l = -l;
  *quadrant = (long long)(bits.u >> 63 ? 4 - (q & 3) : q & 3) & 3;
  double r = h * 0x1.921fb54442d18p+0;
  *lo = __builtin_fma(h, 0x1.921fb54442d18p+0, -r) + (h * 0x1.1a62633145c07p-54 + l * 0x1.921fb54442d18p+0);
  return r;
}
