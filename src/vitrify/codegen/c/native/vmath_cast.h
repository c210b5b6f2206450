/* Narrow floats, carried as their bits: VB are bytes, VS 16-bit words, VH _Float16. All rounding is to
 * nearest even. The f8 formats share two directions, written once with their constants as arguments. */

VT_FN VF VT(cast_f16_f32)(VS x) { return VT_TO((VH)x, VF); }

VT_FN VS VT(cast_f32_f16)(VF x) { return (VS)VT_TO(x, VH); }

VT_FN VF VT(cast_bf16_f32)(VS x) { return (VF)(VT_TO(x, VU) << 16); }

/* A NaN keeps its sign and its upper bits and becomes quiet, so rounding cannot carry it into an infinity. */
VT_FN VS VT(cast_f32_bf16)(VF x) {
  VU u = (VU)x;
  VU r = (u + (0x7fffu + ((u >> 16) & 1u))) >> 16;
  r = VT_SEL((VI)(x != x), (u >> 16) | 0x40u, r);
  return VT_TO(r, VS);
}

/* Sign, then exponent and mantissa moved to where f32 has them; the product corrects the bias and normalises
 * subnormals exactly. */
VT_FN VF VT(f8_widen)(VU b, unsigned shift, float scale) {
  VU magnitude = (b & 0x7fu) << shift;
  return (VF)((VU)((VF)magnitude * scale) | (b & 0x80u) << 24);
}

VT_FN VF VT(cast_f8e4m3fn_f32)(VB x) {
  VU b = VT_TO(x, VU);
  VF y = VT(f8_widen)(b, 20u, 0x1p120f);
  return (VF)((VU)y | ((VU)((b & 0x7fu) == 0x7fu) & 0x7fc00000u));
}

VT_FN VF VT(cast_f8e4m3fnuz_f32)(VB x) {
  VU b = VT_TO(x, VU);
  VF y = VT(f8_widen)(b, 20u, 0x1p119f);
  return VT_SEL(b == 0x80u, VT_K(y, -__builtin_nanf("")), y);
}

/* The upper byte of an f16, but an infinity and a NaN need their own exponent. */
VT_FN VF VT(cast_f8e5m2_f32)(VB x) {
  VU b = VT_TO(x, VU);
  VF y = VT(f8_widen)(b, 21u, 0x1p112f);
  VU top = (VU)((b & 0x7fu) >= 0x7cu);
  VU quiet = (VU)((b & 0x7fu) > 0x7cu) & 0x00400000u;
  return (VF)((VU)y | (top & 0x7f800000u) | quiet);
}

VT_FN VF VT(cast_f8e5m2fnuz_f32)(VB x) {
  VU b = VT_TO(x, VU);
  VF y = VT(f8_widen)(b, 21u, 0x1p111f);
  return VT_SEL(b == 0x80u, VT_K(y, -__builtin_nanf("")), y);
}

/* |x| in 7 bits: rounded at bit `shift` where the result is normal; below `smallest`, the least normal value,
 * by adding `step`, whose unit in the last place is the result's least value. Values above the format's range
 * come out above its largest code. */
VT_FN VU VT(f8_narrow)(VF a, unsigned shift, unsigned rebias, float smallest, float step) {
  VU u = (VU)a;
  VU odd = (u >> shift) & 1u;
  VU normal = (u + (odd + ((1u << (shift - 1u)) - 1u)) - rebias) >> shift;
  VU tiny = (VU)(a + step) - (VU)VT_K(a, step);
  return VT_SEL((VI)(a < smallest), tiny, normal);
}

/* The magnitude code: what exceeds `largest` becomes `over`, a NaN `nan`. */
VT_FN VU VT(f8_limit)(VF a, VU m, unsigned largest, unsigned over, unsigned nan) {
  m = VT_SEL((VI)(m > largest), VT_K(m, over), m);
  return VT_SEL((VI)(a != a), VT_K(m, nan), m);
}

/* FN and E5M2 keep the sign of every value. */
VT_FN VB VT(f8_signed)(VF x, VU m) { return VT_TO(m | (((VU)x >> 24) & 0x80u), VB); }

/* FNUZ formats: no negative zero, and 0x80 is the only NaN. */
VT_FN VB VT(f8_unsigned_zero)(VF x, VU m) {
  VU s = m | (((VU)x >> 24) & 0x80u);
  s = VT_SEL((VI)(m == 0u), m, s);
  return VT_TO(VT_SEL((VI)(m == 0x80u), m, s), VB);
}

VT_FN VU VT(f8e4m3fn_code)(VF a) {
  return VT(f8_narrow)(a, 20u, 0x3c000000u, 0x1p-6f, 0x1p14f);
}

VT_FN VB VT(cast_f32_f8e4m3fn)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_signed)(x, VT(f8_limit)(a, VT(f8e4m3fn_code)(a), 0x7eu, 0x7eu, 0x7fu));
}

VT_FN VB VT(cast_f32_f8e4m3fn_nosat)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_signed)(x, VT(f8_limit)(a, VT(f8e4m3fn_code)(a), 0x7eu, 0x7fu, 0x7fu));
}

VT_FN VU VT(f8e4m3fnuz_code)(VF a) {
  return VT(f8_narrow)(a, 20u, 0x3b800000u, 0x1p-7f, 0x1p13f);
}

VT_FN VB VT(cast_f32_f8e4m3fnuz)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_unsigned_zero)(x, VT(f8_limit)(a, VT(f8e4m3fnuz_code)(a), 0x7fu, 0x7fu, 0x80u));
}

VT_FN VB VT(cast_f32_f8e4m3fnuz_nosat)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_unsigned_zero)(x, VT(f8_limit)(a, VT(f8e4m3fnuz_code)(a), 0x7fu, 0x80u, 0x80u));
}

VT_FN VU VT(f8e5m2_code)(VF a) {
  return VT(f8_narrow)(a, 21u, 0x38000000u, 0x1p-14f, 0x1p7f);
}

VT_FN VB VT(cast_f32_f8e5m2)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_signed)(x, VT(f8_limit)(a, VT(f8e5m2_code)(a), 0x7bu, 0x7bu, 0x7eu));
}

VT_FN VB VT(cast_f32_f8e5m2_nosat)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_signed)(x, VT(f8_limit)(a, VT(f8e5m2_code)(a), 0x7bu, 0x7cu, 0x7eu));
}

VT_FN VU VT(f8e5m2fnuz_code)(VF a) {
  return VT(f8_narrow)(a, 21u, 0x37800000u, 0x1p-15f, 0x1p6f);
}

VT_FN VB VT(cast_f32_f8e5m2fnuz)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_unsigned_zero)(x, VT(f8_limit)(a, VT(f8e5m2fnuz_code)(a), 0x7fu, 0x7fu, 0x80u));
}

VT_FN VB VT(cast_f32_f8e5m2fnuz_nosat)(VF x) {
  VF a = __builtin_elementwise_abs(x);
  return VT(f8_unsigned_zero)(x, VT(f8_limit)(a, VT(f8e5m2fnuz_code)(a), 0x7fu, 0x80u, 0x80u));
}
