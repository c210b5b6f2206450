"""Partial, strided and gathering loads and stores of one register type, as C functions."""

from __future__ import annotations

from collections.abc import Sequence

from vitrify.codegen.c.types import element, register
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import BOOL
from vitrify.lower.loop import VType

MOST_APART = 4  # elements between those of neighbouring lanes, up to which whole vectors are loaded and picked from


def picked(stride: DimLike, lanes: int) -> bool:
    """Whether a load in steps is some whole loads, and lanes picked from them."""
    return isinstance(stride, int) and 2 <= stride <= MOST_APART and lanes >= stride


def move_definition(name: str, type_: VType) -> str:
    """The definition of ``vt_NAME_TYPE``."""
    stem, _, stride = name.partition("_by")
    if stride:
        return _picking(stem == "maskcollect", name, int(stride), type_)
    t, lanes = register(type_), type_.lanes
    c, mask = element(type_.dtype), register(VType(BOOL, lanes))
    index = f"(vt_i32x{lanes}){{{', '.join(map(str, range(lanes)))}}}"
    head = f"__builtin_convertvector({index} < (int)count, {mask})"
    cast = f"({t})" if lanes > 1 else ""
    zero = f"({t})(0)"  # lanes that are not read would be poison, which spreads through every operator
    each = f"for (int i = 0; i < {lanes}; i++)"
    source, fresh = f"const {c} *p", f"{t} r = {{0}}; {each}"
    forms = {  # result, parameters, body
        "head": (mask, "int64_t count", f"return {head};"),
        "load": (t, f"{source}, int64_t count", f"return {cast}__builtin_masked_load({head}, p, {zero});"),
        "maskload": (t, f"{source}, {mask} m", f"return {cast}__builtin_masked_load(m, p, {zero});"),
        "store": ("void", f"{c} *p, {t} v, int64_t count", f"__builtin_masked_store({head}, v, p);"),
        "collect": (
            t, f"{source}, int64_t s, int64_t count", f"{fresh} if (i < count) r[i] = p[i * s]; return r;",
        ),
        "maskcollect": (t, f"{source}, int64_t s, {mask} m", f"{fresh} if (m[i]) r[i] = p[i * s]; return r;"),
        "scatter": (
            "void", f"{c} *p, int64_t s, {t} v, int64_t count", f"{each} if (i < count) p[i * s] = v[i];",
        ),
        "gather": (t, f"{source}, vt_i64x{lanes} at, {mask} m", f"{fresh} if (m[i]) r[i] = p[at[i]]; return r;"),
    }  # fmt: skip
    result, parameters, body = forms[name]
    return f"static inline {result} vt_{name}_{type_}({parameters}) {{ {body} }}"


def _picking(masked: bool, name: str, stride: int, type_: VType) -> str:
    """Every ``stride``-th element, from ``stride`` vectors of which the last ends where the last lane is: nothing
    after that is read. Lanes that are masked off, and what lies between lanes then, are not read either."""
    t, lanes = register(type_), type_.lanes
    starts = [k * lanes for k in range(stride - 1)] + [(stride - 1) * (lanes - 1)]
    home = [min(i * stride // lanes, stride - 1) for i in range(lanes)]  # the vector that has the lane's element
    place = [i * stride - starts[h] for i, h in enumerate(home)]
    body, parts = "", []
    for k, start in enumerate(starts):
        at = f"p + {start}" if start else "p"
        if masked:
            chosen = [-1] * lanes
            for i in range(lanes):
                if home[i] == k:
                    chosen[place[i]] = i
            body += f"{register(VType(BOOL, lanes))} m{k} = {_shuffle('m', 'm ^ m', chosen)}; "
            parts.append(f"__builtin_masked_load(m{k}, {at}, ({t})(0))")
        else:
            parts.append(f"*(const {t}u *)({at})")
        body += f"{t} v{k} = {'(' + t + ')' if masked else ''}{parts[-1]}; "
    merged = "v0"
    held = [place[i] if home[i] == 0 else -1 for i in range(lanes)]
    for k in range(1, stride):
        choice = [lanes + place[i] if home[i] == k else held[i] for i in range(lanes)]
        body += f"{t} r{k} = __builtin_shufflevector({merged}, v{k}, {', '.join(map(str, choice))}); "
        merged, held = f"r{k}", [i if home[i] <= k else -1 for i in range(lanes)]
    parameters = f"const {element(type_.dtype)} *p" + (f", {register(VType(BOOL, lanes))} m" if masked else "")
    return f"static inline {t} vt_{name}_{type_}({parameters}) {{ {body}return {merged}; }}"


def _shuffle(value: str, other: str, chosen: Sequence[int]) -> str:
    """Lanes of ``value``; of ``other`` where -1."""
    picks = ", ".join(str(len(chosen) if i < 0 else i) for i in chosen)
    return f"__builtin_shufflevector({value}, {other}, {picks})"
