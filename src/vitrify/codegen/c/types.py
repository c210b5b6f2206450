"""C spellings of dtypes and register types."""

from __future__ import annotations

from vitrify.ir.dtypes import BOOL, DType
from vitrify.lower.loop import VType

# Memory: narrow floats are raw bits (f16 too: not every target has its arithmetic), bool a byte, integers
# of 4 and 2 bits one to a byte.
ELEMENT = {
    "f64": "double", "f32": "float", "f16": "_Float16", "bf16": "uint16_t", "f8e4m3fn": "uint8_t",
    "f8e4m3fnuz": "uint8_t", "f8e5m2": "uint8_t", "f8e5m2fnuz": "uint8_t", "i64": "int64_t", "i32": "int32_t",
    "i16": "int16_t", "i8": "int8_t", "u64": "uint64_t", "u32": "uint32_t", "u16": "uint16_t", "u8": "uint8_t",
    "i4": "int8_t", "u4": "uint8_t", "bool": "uint8_t", "i2": "int8_t", "u2": "uint8_t",
}  # fmt: skip


def element(dtype: DType) -> str:
    return ELEMENT[dtype.name]


def register(type_: VType) -> str:
    """The type of a value in a register: ``vt_f32x16``; of bool, ``_Bool`` lanes."""
    return f"vt_{type_.dtype.name}x{type_.lanes}"


def typedefs(type_: VType) -> list[str]:
    """The register type, and the same with an element's alignment for memory (``…u``)."""
    name = register(type_)
    base = "_Bool" if type_.dtype is BOOL else element(type_.dtype)
    if type_.lanes == 1:
        return [f"typedef {base} {name};"]
    lines = [f"typedef {base} {name} __attribute__((ext_vector_type({type_.lanes})));"]
    if type_.dtype is not BOOL:
        lines.append(f"typedef {name} {name}u __attribute__((aligned({type_.dtype.itemsize})));")
    return lines
