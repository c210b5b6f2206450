/* Macros shared by every element type.  Nothing here needs a C library or an intrinsics header.
 *
 * The vmath_*.h files are specialised by vmath.py: VT(name) is the function of this element type and
 * lane count, VF / VI / VU its float, signed and unsigned vectors, VT_L the lane count.  VT64(name), VF64,
 * VI64 and VU64 are the f64 forms with the same lane count.  One blank line separates two items. */

#define VT_TO(x, type) __builtin_convertvector(x, type)

#define VT_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)

/* The scalar c in every lane of a vector like v; c - 0 keeps -0. */
#define VT_K(v, c) ((c) - (__typeof__(v)){})

/* One Horner step p * x + c. */
#define VT_H(p, x, c) VT_FMA(p, x, VT_K(x, c))

/* Lanes of a where m is set, of b elsewhere; m is the result of a comparison of equally wide elements. */
#define VT_SEL(m, a, b) ((__typeof__(a))(((m) & (__typeof__(m))(a)) | (~(m) & (__typeof__(m))(b))))

/* min(x, c) and max(x, c) that keep a NaN in x; they lower to one minps / maxps. */
#define VT_MIN(x, c) VT_SEL(VT_K(x, c) < (x), VT_K(x, c), x)

#define VT_MAX(x, c) VT_SEL(VT_K(x, c) > (x), VT_K(x, c), x)
