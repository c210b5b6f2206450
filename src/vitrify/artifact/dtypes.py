"""Element types as artifacts name them. A type's code, used by payloads, is its index in ``DTYPES``."""

from __future__ import annotations

from .record import Record


class DType(Record):
    """``carrier`` is the NumPy type of the raw bits. ``extension`` is the ml_dtypes name of a type
    that NumPy lacks, else empty. Integers of 4 and 2 bits take one byte per element."""

    name: str
    itemsize: int
    carrier: str
    onnx: str
    extension: str = ""

    @property
    def tensor_type(self) -> str:
        """The name sessions show, such as ``tensor(float)``."""
        return f"tensor({self.onnx})"


DTYPES = (
    DType("f64", 8, "float64", "double"),
    DType("f32", 4, "float32", "float"),
    DType("f16", 2, "float16", "float16"),
    DType("bf16", 2, "uint16", "bfloat16", "bfloat16"),
    DType("f8e4m3fn", 1, "uint8", "float8e4m3fn", "float8_e4m3fn"),
    DType("f8e4m3fnuz", 1, "uint8", "float8e4m3fnuz", "float8_e4m3fnuz"),
    DType("f8e5m2", 1, "uint8", "float8e5m2", "float8_e5m2"),
    DType("f8e5m2fnuz", 1, "uint8", "float8e5m2fnuz", "float8_e5m2fnuz"),
    DType("i64", 8, "int64", "int64"),
    DType("i32", 4, "int32", "int32"),
    DType("i16", 2, "int16", "int16"),
    DType("i8", 1, "int8", "int8"),
    DType("u64", 8, "uint64", "uint64"),
    DType("u32", 4, "uint32", "uint32"),
    DType("u16", 2, "uint16", "uint16"),
    DType("u8", 1, "uint8", "uint8"),
    DType("i4", 1, "int8", "int4", "int4"),
    DType("u4", 1, "uint8", "uint4", "uint4"),
    DType("bool", 1, "bool", "bool"),
    DType("i2", 1, "int8", "int2", "int2"),
    DType("u2", 1, "uint8", "uint2", "uint2"),
)

BY_NAME = {dtype.name: dtype for dtype in DTYPES}
CODES = {dtype.name: code for code, dtype in enumerate(DTYPES)}
