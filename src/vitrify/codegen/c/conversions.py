"""C text of casts between element types.

Floats to integers saturate, NaN gives 0: C leaves what is out of range undefined, ONNX too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrify.codegen.c.types import register
from vitrify.ir.dtypes import BOOL, F16, F32, F64, I8, U8, DType
from vitrify.lower.loop import VType

if TYPE_CHECKING:
    from vitrify.codegen.c.printer import KernelPrinter


def conversion(printer: KernelPrinter, text: str, source: VType, to: DType, saturate: bool) -> str:
    """``text`` of type ``source`` converted to ``to``."""
    lanes, origin = source.lanes, source.dtype
    defs = printer.defs

    def plain(value: str, target: DType) -> str:
        name = defs.type(VType(target, lanes))
        return f"({name})({value})" if lanes == 1 else f"__builtin_convertvector({value}, {name})"

    if origin.bits < 8:  # only the low bits of the byte count
        byte = I8 if origin.min() else U8
        wrapped = _wrapped(printer, text, byte, lanes, origin.bits)
        return wrapped if to is byte else conversion(printer, wrapped, VType(byte, lanes), to, saturate)
    if to is BOOL:
        if origin.is_float and origin.bits < 32:
            return conversion(printer, conversion(printer, text, source, F32, True), VType(F32, lanes), BOOL, True)
        name = defs.type(VType(BOOL, lanes))
        return f"({text} != 0)" if lanes == 1 else f"__builtin_convertvector({text} != 0, {name})"
    if _narrow(origin):
        wide = text if origin is F32 else _vmath_cast(printer, text, origin, F32, lanes, "")
        return conversion(printer, wide, VType(F32, lanes), to, saturate) if to is not F32 else wide
    if _narrow(to):
        value = text if origin is F32 else plain(text, F32)
        mode = "" if saturate or to.bits > 8 else "_nosat"
        return _vmath_cast(printer, value, F32, to, lanes, mode)
    if to.bits < 8:
        whole = conversion(printer, text, source, I8 if to.min() else U8, saturate)
        return _wrapped(printer, whole, to, lanes, to.bits)
    if origin.is_float and to.is_int:
        return f"{defs.function(f'to_{to.name}', source)}({text})"
    return plain(text, to)


def _narrow(dtype: DType) -> bool:
    return dtype.is_float and dtype not in (F32, F64)


def _vmath_cast(printer: KernelPrinter, text: str, origin: DType, to: DType, lanes: int, mode: str) -> str:
    printer.defs.type(VType(origin, lanes))
    printer.defs.type(VType(to, lanes))
    if {origin, to} == {F16, F32}:
        name = register(VType(to, lanes))
        return f"({name})({text})" if lanes == 1 else f"__builtin_convertvector({text}, {name})"
    name = f"cast_{origin.name}_{to.name}{mode}"
    function = printer.defs.vector_math(name, "cast", [VType(origin, lanes)], VType(to, lanes))
    return f"{function}({text})"


def _wrapped(printer: KernelPrinter, byte: str, to: DType, lanes: int, bits: int) -> str:
    """The low ``bits`` of a byte, their sign in the others."""
    name, gap = printer.defs.type(VType(to, lanes)), 8 - bits
    if lanes == 1:
        return f"({name})((({name})({byte} << {gap})) >> {gap})"
    return f"(({byte} << {gap}) >> {gap})"
