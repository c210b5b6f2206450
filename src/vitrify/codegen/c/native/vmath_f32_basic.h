/* f32: roots and roundings that the processor has. */

VT_FN VF VT(sqrt)(VF x) { return __builtin_elementwise_sqrt(x); }

VT_FN VF VT(rsqrt)(VF x) { return 1.0f / __builtin_elementwise_sqrt(x); }

VT_FN VF VT(floor)(VF x) { return __builtin_elementwise_floor(x); }

VT_FN VF VT(ceil)(VF x) { return __builtin_elementwise_ceil(x); }

VT_FN VF VT(round)(VF x) { return __builtin_elementwise_roundeven(x); }

VT_FN VF VT(trunc)(VF x) { return __builtin_elementwise_trunc(x); }
