"""Vector math for generated kernels: the C text of exactly the functions a kernel uses.

The functions are written once per element type in ``native/vmath_*.h`` and specialised here for a lane
count. The text needs no C library and no intrinsics header. ``docs/vector-math.md`` has the method and the
error bounds.

Kernels are compiled with ``-ffp-contract=off``, ``on`` or ``fast-honor-pragmas``. With plain ``fast`` clang
ignores the functions' own ``contract(off)``, and results could differ from one lane count to another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from vitrify.codegen.c.vmath_table import ARITY, BOUNDS, CASTS, LANES
from vitrify.errors import InvalidArgumentError

__all__ = ["BOUNDS", "vmath_source"]

_NATIVE: Final = Path(__file__).parent / "native"
_HEADERS: Final = {
    "f32": ("vmath_f32.h", "vmath_f32_erf.h", "vmath_f32_trig.h", "vmath_f32_wide.h", "vmath_f32_basic.h"),
    "f64": (
        "vmath_f64.h",
        "vmath_f64_erf.h",
        "vmath_f64_trig.h",
        "vmath_f64_inverse.h",
        "vmath_f64_pow.h",
        "vmath_f64_basic.h",
    ),
    "cast": ("vmath_cast.h",),
    "scalar": ("vmath_scalar.h",),
}
_BITS: Final = {"f32": 32, "f64": 64}
_TYPES: Final = {
    "f16": ("_Float16", 2),
    "f32": ("float", 4),
    "f64": ("double", 8),
    "i32": ("int", 4),
    "i64": ("long long", 8),
    "u8": ("unsigned char", 1),
    "u16": ("unsigned short", 2),
    "u32": ("unsigned int", 4),
    "u64": ("unsigned long long", 8),
}
_SCALEF: Final = {
    ("f32", 16): "__builtin_ia32_scalefps512_mask(p, n, p, 0xffff, 4)",
    ("f32", 8): "__builtin_ia32_scalefps256_mask(p, n, p, 0xff)",
    ("f32", 4): "__builtin_ia32_scalefps128_mask(p, n, p, 0xf)",
    ("f64", 8): "__builtin_ia32_scalefpd512_mask(p, n, p, 0xff, 4)",
    ("f64", 4): "__builtin_ia32_scalefpd256_mask(p, n, p, 0xf)",
    ("f64", 2): "__builtin_ia32_scalefpd128_mask(p, n, p, 0x3)",
}
_ITEM_NAME: Final = re.compile(r"VT\((\w+)\)\(|#define (VT_\w+)|\b(vt_\w+)(?=[(\[])")
_TOKEN: Final = re.compile(
    r"\bVT(64)?\((\w+)\)|\b(V[FIU])(64)?\b|\b(V[SHB])\b|\b(VT_\w+)\b|\b(vt_[a-z]\w*)\b"
)
_COMMENT: Final = re.compile(r"/\*.*?\*/\s*", re.DOTALL)


@dataclass(frozen=True)
class _Item:
    """One top-level definition of a header, comments removed."""

    kind: str
    name: str
    text: str


@lru_cache(maxsize=1)
def _library() -> dict[tuple[str, str], _Item]:
    """All items by (element type or "cast" / "scalar" / "macro", name)."""
    items: dict[tuple[str, str], _Item] = {}
    sources = [("macro", "vmath_base.h")]
    sources += [(kind, header) for kind, headers in _HEADERS.items() for header in headers]
    for kind, header in sources:
        text = _COMMENT.sub("", (_NATIVE / header).read_text(encoding="utf-8"))
        for block in re.split(r"\n\s*\n", text.strip()):
            match = _ITEM_NAME.search(block)
            if match is None:
                raise AssertionError(f"{header}: no definition in {block!r}")
            name = next(group for group in match.groups() if group)
            items[kind, name] = _Item(kind, name, block.strip())
    return items


class _Emitter:
    """Collects typedefs and functions, dependencies first, each once."""

    def __init__(self) -> None:
        self.typedefs: dict[str, None] = {}
        self.macros: dict[str, None] = {}
        self.functions: dict[str, str] = {}

    def vector(self, element: str, lanes: int) -> str:
        """The name of a vector type, one-element vectors included; declares it."""
        ctype, size = _TYPES[element]
        name = f"vt_{element}{'v' if lanes == 1 else 'x'}{lanes}"
        self.typedefs[f"typedef {ctype} {name} __attribute__((vector_size({size * lanes})));"] = None
        return name

    def scalar(self, element: str) -> str:
        """The name of the scalar type of the L = 1 interface; declares it."""
        name = f"vt_{element}x1"
        self.typedefs[f"typedef {_TYPES[element][0]} {name};"] = None
        return name

    def function(self, kind: str, name: str, lanes: int) -> str:
        """Emit item ``name`` for ``lanes`` lanes after what it depends on; returns its C name."""
        item = _library()[kind, name]
        symbol = self._symbol(item, lanes)
        if symbol not in self.functions:
            text = self._specialise(item, lanes)
            if item.text.startswith("VT_FN"):
                text = text.replace("{", '{ _Pragma("clang fp contract(off)")', 1)
            self.functions[symbol] = text
        return symbol

    def _symbol(self, item: _Item, lanes: int) -> str:
        if item.kind == "scalar":
            return item.name
        dtype = "" if item.kind == "cast" else f"_{item.kind}"
        return f"vt_{item.name}{dtype}{'v' if lanes == 1 else 'x'}{lanes}"

    def _specialise(self, item: _Item, lanes: int) -> str:
        def replace(match: re.Match[str]) -> str:
            wide, called, vector, vector_wide, small, macro, scalar = match.groups()
            if called == item.name and not wide:
                return self._symbol(item, lanes)
            if called:
                return self.function("f64" if wide else item.kind, called, lanes)
            if vector:
                bits = "64" if vector_wide or item.kind == "f64" else "32"
                return self.vector({"VF": "f", "VI": "i", "VU": "u"}[vector] + bits, lanes)
            if small:
                return self.vector({"VS": "u16", "VH": "f16", "VB": "u8"}[small], lanes)
            if macro:
                return self._macro(item, macro, lanes)
            return self.function("scalar", scalar, 1) if scalar != item.name else scalar

        return _TOKEN.sub(replace, item.text)

    def _macro(self, item: _Item, macro: str, lanes: int) -> str:
        if macro == "VT_FN":
            return "static inline __attribute__((always_inline))"
        if macro == "VT_L":
            return str(lanes)
        if macro == "VT_HAS_SCALEF":
            return "defined(__AVX512VL__)" if (item.kind, lanes) in _SCALEF else "0"
        if macro == "VT_SCALEF":
            return _SCALEF.get((item.kind, lanes), "p")
        self.need_macro(macro)
        return macro

    def need_macro(self, macro: str) -> None:
        """Emit a preprocessor macro after the macros it expands to."""
        text = _library()["macro", macro].text
        for used in re.findall(r"\bVT_\w+", text):
            if used != macro:
                self.need_macro(used)
        self.macros[text] = None

    def text(self) -> str:
        parts = ["\n".join(self.typedefs), "\n".join(self.macros), *self.functions.values()]
        return "\n".join(part for part in parts if part) + "\n"


def _public(emitter: _Emitter, name: str, dtype: str, lanes: int) -> None:
    """The interface function: itself for vectors, a scalar wrapper of the one-lane vector for L = 1."""
    if name in CASTS:
        kind, (source, target), arguments = "cast", CASTS[name], ["x"]
        symbol = f"vt_{name}x1"
    else:
        kind, (source, target), arguments = dtype, (dtype, dtype), ["x", "y"][: ARITY[name]]
        symbol = f"vt_{name}_{dtype}x1"
    inner = emitter.function(kind, name, lanes)
    if lanes > 1:
        return
    params = ", ".join(f"{emitter.scalar(source)} {a}" for a in arguments)
    values = ", ".join(f"({emitter.vector(source, 1)}){{{a}}}" for a in arguments)
    emitter.functions[symbol] = (
        f"static inline __attribute__((always_inline)) {emitter.scalar(target)} {symbol}({params}) {{\n"
        f"  return {inner}({values})[0];\n}}"
    )


def vmath_source(uses: Iterable[tuple[str, str, int]]) -> str:
    """The C text of the functions in ``uses`` and of everything they call, in a deterministic order.

    Each use is ``(name, dtype, lanes)``: a name of :data:`vmath_table.ARITY` with dtype ``"f32"`` (lanes 1,
    4, 8, 16) or ``"f64"`` (lanes 1, 2, 4, 8), which defines ``vt_<name>_<dtype>x<lanes>`` on the type
    ``vt_<dtype>x<lanes>``; or a name of :data:`vmath_table.CASTS` with the dtype ``"cast"`` (lanes 1, 4, 8,
    16), which defines ``vt_<name>x<lanes>``. At one lane the types are plain scalars. Vector types are
    typedefs of ``__attribute__((vector_size))`` types and may be repeated elsewhere.

    Raises InvalidArgumentError for a name, dtype or lane count outside these.
    """
    emitter = _Emitter()
    for name, dtype, lanes in sorted(set(uses)):
        known: Iterable[str] = CASTS if dtype == "cast" else ARITY
        if dtype not in LANES or name not in known:
            choices = f"one of {', '.join(known)}" if dtype in LANES else f"a dtype of {', '.join(LANES)}"
            raise InvalidArgumentError(
                "no such vector math function", expected=choices, actual=f"{name} in {dtype}"
            )
        if lanes not in LANES[dtype]:
            raise InvalidArgumentError(
                "no such lane count", expected=f"one of {LANES[dtype]} for {dtype}", actual=lanes
            )
        _public(emitter, name, dtype, lanes)
    return emitter.text() if emitter.functions else ""
