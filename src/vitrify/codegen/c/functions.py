"""Small functions that generated code calls besides the vector math: one C definition per row and type."""

from __future__ import annotations

from vitrify.codegen.c.types import register
from vitrify.ir.dtypes import BOOL, BY_NAME, F32, DType, Kind
from vitrify.lower.loop import VType

# Rows whose definition is here rather than in the vector math.
LOCAL = frozenset(
    "abs sign min max relu floormod quotient fmod_int ipow isinf isnan not shl shr where fma eq_bool".split()
)


def definition(name: str, type_: VType) -> str:
    """``static inline`` definition of ``vt_NAME_TYPE``."""
    if name.startswith("fold_"):
        return _fold(name[5:], type_)
    if name.startswith("to_"):
        return _to_integer(BY_NAME[name[3:]], type_)
    body = _scalar_body(name, type_.dtype) if type_.lanes == 1 else _vector_body(name, type_)
    t = register(type_)
    mask = register(VType(BOOL, type_.lanes))
    result = mask if name in ("isinf", "isnan") else t
    parameters = {
        "where": f"{mask} m, {t} a, {t} b", "fma": f"{t} a, {t} b, {t} c", "abs": f"{t} a", "sign": f"{t} a",
        "relu": f"{t} a", "isinf": f"{t} a", "isnan": f"{t} a", "not": f"{t} a",
    }.get(name, f"{t} a, {t} b")  # fmt: skip
    return f"static inline {result} vt_{name}_{type_}({parameters}) {{ {body} }}"


def _scalar_body(name: str, dtype: DType) -> str:
    t = register(VType(dtype, 1))
    signed = dtype.kind is Kind.SIGNED
    bits = dtype.itemsize * 8
    bodies = {
        "abs": _abs(dtype, t, ""),
        "sign": f"return ({t})((a > 0) - (a < 0));"
        if not dtype.is_float
        else "return a != a ? a : (a > 0) - (a < 0);",
        "min": "return a != a || a < b ? a : b;",
        "max": "return a != a || a > b ? a : b;",
        "relu": "return 0 > a ? 0 : a;",
        "isinf": "return __builtin_fabsf(a) == __builtin_inff();"
        if dtype is F32
        else "return __builtin_fabs(a) == __builtin_inf();",
        "isnan": "return a != a;",
        "not": "return !a;" if dtype.is_bool else f"return ({t})~a;",
        "where": "return m ? a : b;",
        "fma": "return __builtin_elementwise_fma(a, b, c);",
        "shl": f"return ({t})((uint64_t)b >= {bits} ? 0 : (uint64_t)a << b);",
        "shr": f"return ({t})((uint64_t)b >= {bits} ? {'(a < 0 ? -1 : 0)' if signed else '0'} : a >> b);",
        # A zero divisor is reported by the kernel; the value itself must not trap, nor may MIN / -1.
        "quotient": "if (b == 0) return 0; "
        + (f"if (b == -1) return ({t})(0 - (uint64_t)a); " if signed else "")
        + f"return ({t})(a / b);",
        "fmod_int": "if (b == 0) return 0; "
        + ("if (b == -1) return 0; " if signed else "")
        + f"return ({t})(a % b);",
        "floormod": "if (b == 0) return 0; "
        + (
            f"if (b == -1) return 0; {t} r = ({t})(a % b); return r != 0 && (r < 0) != (b < 0) ? ({t})(r + b) : r;"
            if signed
            else f"return ({t})(a % b);"
        ),
        "ipow": ("if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0; " if signed else "")
        + f"uint64_t r = 1, x = (uint64_t)a; for (; b; b >>= 1, x *= x) if (b & 1) r *= x; return ({t})r;",
    }
    return bodies[name]


def _abs(dtype: DType, t: str, _: str) -> str:
    if dtype.is_float:
        return "return __builtin_elementwise_abs(a);"
    return (
        f"return ({t})(a < 0 ? 0 - (uint64_t)a : (uint64_t)a);" if dtype.kind is Kind.SIGNED else "return a;"
    )


def _vector_body(name: str, type_: VType) -> str:
    t, mask = register(type_), register(VType(BOOL, type_.lanes))
    dtype = type_.dtype
    bodies = {
        "abs": "return __builtin_elementwise_abs(a);" if dtype.kind is not Kind.UNSIGNED else "return a;",
        "sign": "return (a != a) ? a : ((a > 0) ? ({t})(1) : ((a < 0) ? ({t})(-1) : ({t})(0)));".replace(
            "{t}", t
        )
        if dtype.kind is not Kind.UNSIGNED
        else f"return (a > 0) ? ({t})(1) : ({t})(0);",
        "min": "return ((a != a) | (a < b)) ? a : b;"
        if dtype.is_float
        else "return __builtin_elementwise_min(a, b);",
        "max": "return ((a != a) | (a > b)) ? a : b;"
        if dtype.is_float
        else "return __builtin_elementwise_max(a, b);",
        "relu": f"return (({t})(0) > a) ? ({t})(0) : a;",
        "isinf": f"return __builtin_convertvector(__builtin_elementwise_abs(a) == ({t})(__builtin_inf()), {mask});",
        "isnan": f"return __builtin_convertvector(a != a, {mask});",
        "not": "return ~a;",
        "fma": "return __builtin_elementwise_fma(a, b, c);",
        "where": _vector_where(type_),
    }
    if dtype is BOOL:
        bodies |= {"min": "return a & b;", "max": "return a | b;", "where": "return (m & a) | (~m & b);"}
    return bodies.get(name) or _by_lane(name, type_)


def _vector_where(type_: VType) -> str:
    integer = f"vt_i{type_.dtype.itemsize * 8}x{type_.lanes}"
    return f"return (__builtin_convertvector(m, {integer}) != 0) ? a : b;"


def _by_lane(name: str, type_: VType) -> str:
    """Lane by lane through the scalar form: integer division and the like have no vector instruction."""
    scalar = f"vt_{name}_{VType(type_.dtype, 1)}"
    return f"for (int i = 0; i < {type_.lanes}; i++) a[i] = {scalar}(a[i], b[i]); return a;"


def needs(name: str, type_: VType) -> list[tuple[str, VType]]:
    """Definitions, or types under the name "", that must stand before this one."""
    lanes = type_.lanes
    found = [("", type_), ("", VType(BOOL, lanes))]
    if name.startswith("fold_"):
        halves = [VType(type_.dtype, lanes >> i) for i in range(lanes.bit_length())]
        found += [("", t) for t in halves]
        if name[5:] in LOCAL:
            found += [(name[5:], t) for t in halves[1:]]
        return found
    if name.startswith("to_"):
        return [*found, ("", VType(BY_NAME[name[3:]], lanes))]
    if name == "where" and lanes > 1 and type_.dtype is not BOOL:
        found.append(("", VType(BY_NAME[f"i{type_.dtype.itemsize * 8}"], lanes)))
    elif lanes > 1 and name in ("floormod", "quotient", "fmod_int", "ipow", "shl", "shr"):
        found.append((name, VType(type_.dtype, 1)))
    return found


_FOLD_OPERATORS = {"add": "+", "mul": "*", "and": "&", "or": "|"}


def _fold(fn: str, type_: VType) -> str:
    """Halves combined until one lane is left."""
    lanes, t = type_.lanes, register(type_)
    scalar = register(VType(type_.dtype, 1))
    lines, name, width = [], "a", lanes
    while width > 1:
        width //= 2
        half = register(VType(type_.dtype, width))
        low = (
            f"__builtin_shufflevector({name}, {name}, {', '.join(map(str, range(width)))})"
            if width > 1
            else f"{name}[0]"
        )
        high = (
            f"__builtin_shufflevector({name}, {name}, {', '.join(map(str, range(width, 2 * width)))})"
            if width > 1
            else f"{name}[1]"
        )
        if fn in _FOLD_OPERATORS:
            value = f"{low} {_FOLD_OPERATORS[fn]} {high}"
        else:
            value = f"vt_{fn}_{VType(type_.dtype, width)}({low}, {high})"
        lines.append(f"{half} a{width} = ({half})({value});")
        name = f"a{width}"
    return f"static inline {scalar} vt_fold_{fn}_{type_}({t} a) {{ {' '.join(lines)} return a1; }}"


def _to_integer(to: DType, type_: VType) -> str:
    """Truncation that saturates: the bounds are the nearest floats inside the integer's range."""
    t, lanes = register(type_), type_.lanes
    target = register(VType(to, lanes))
    low, high = float(to.min()), int(to.max())
    mantissa = type_.dtype.mantissa + 1
    excess = max(high.bit_length() - mantissa, 0)
    inside = float((high >> excess) << excess)
    if lanes == 1:
        least, most = f"({target}){_int(to, int(low))}", f"({target}){_int(to, high)}"
        body = f"return a != a ? 0 : a <= {low!r} ? {least} : a > {inside!r} ? {most} : ({target})a;"
    else:
        least, most = f"({t})({low!r})", f"({t})({inside!r})"
        clamp = f"{t} c = (a != a) ? ({t})(0) : ((a < {least}) ? {least} : ((a > {most}) ? {most} : a));"
        fix = (
            f" return (__builtin_convertvector(a > {most}, {target}) != 0) ? ({target})({_int(to, high)}) : r;"
            if excess
            else " return r;"
        )
        body = f"{clamp} {target} r = __builtin_convertvector(c, {target});{fix}"
    return f"static inline {target} vt_to_{to.name}_{type_}({t} a) {{ {body} }}"


def _int(dtype: DType, value: int) -> str:
    if value == -(2**63):
        return "INT64_MIN"
    return f"{'U' if dtype.min() == 0 else ''}INT64_C({value})"
