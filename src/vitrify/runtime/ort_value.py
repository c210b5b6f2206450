"""OrtValue: an array, or another value, that runs take and give."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..artifact.dtypes import DTYPES, DType
from ..errors import ArgumentTypeError, BindingError
from .feed import Array, native_dtype

#: ONNX's number of each element type.
ONNX_CODES = {
    "float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
    "float16": 10, "double": 11, "uint32": 12, "uint64": 13, "bfloat16": 16, "float8e4m3fn": 17,
    "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20, "uint4": 21, "int4": 22, "uint2": 25, "int2": 26,
}  # fmt: skip
_BY_CODE = {ONNX_CODES[dtype.onnx]: dtype for dtype in DTYPES}
_DLPACK_CPU = (1, 0)


def check_device(device_type: object, device_id: object = 0) -> None:
    """Raises BindingError for anything but the CPU."""
    if str(device_type).lower() != "cpu" or device_id != 0:
        raise BindingError("device", expected="'cpu', 0", actual=f"{device_type!r}, {device_id!r}")


def element_type_of(dtype: np.dtype[Any]) -> str:
    """ONNX's name of a NumPy type. BindingError where there is none."""
    if dtype.kind in "OUST":
        return "string"
    for known in DTYPES:
        if dtype == native_dtype(known) and (known.extension or dtype == np.dtype(known.carrier)):
            if not known.extension or dtype != np.dtype(known.carrier):
                return known.onnx
    raise BindingError("element type", expected="a type of ONNX", actual=str(dtype))


def resolve_type(given: Any) -> DType:
    """The type that a NumPy type or ONNX's number stands for."""
    if isinstance(given, int) and not isinstance(given, bool):
        if given not in _BY_CODE:
            raise BindingError("element type", expected="the number of an ONNX type", actual=given)
        return _BY_CODE[given]
    try:
        name = element_type_of(np.dtype(given))
    except TypeError:
        raise BindingError("element type", expected="a NumPy type, or ONNX's number", actual=repr(given)) from None
    if name == "string":
        raise BindingError("element type", expected="a type of numbers", actual="string")
    return _BY_CODE[ONNX_CODES[name]]


def array_at(pointer: Any, given: Any, shape: Sequence[int]) -> Array:
    """The array at an address, which the caller keeps alive. Raises BindingError."""
    dtype, dims = native_dtype(resolve_type(given)), _dims(shape)
    if isinstance(pointer, bool) or not isinstance(pointer, int) or pointer < 0:
        raise BindingError("buffer_ptr", expected="an address", actual=repr(pointer))
    size = int(np.prod(dims, dtype=object)) * dtype.itemsize
    if not size:
        return np.empty(dims, dtype)
    if not pointer or pointer % dtype.alignment:
        raise BindingError("buffer_ptr", expected=f"a multiple of {dtype.alignment}", actual=pointer)
    memory = (ctypes.c_char * size).from_address(pointer)
    array: Array = np.ndarray(dims, dtype, memoryview(memory))
    return array


def _dims(shape: Any) -> tuple[int, ...]:
    dims = tuple(shape) if isinstance(shape, (list, tuple, np.ndarray)) else (shape,)
    if not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 0 for n in dims):
        raise BindingError("shape", expected="sizes from 0", actual=repr(shape))
    return tuple(int(n) for n in dims)


class _Capsule:
    """A bare DLPack capsule, as what NumPy takes."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CPU


class OrtValue:
    """A value on the CPU: an array, or a sequence, map or optional as Python has it.

    Arrays are held, not copied: who changes the array changes the value. Raises BindingError (a RuntimeError
    and a ValueError) for what cannot be held.
    """

    def __init__(self, value: Any, onnx_type: str | None = None) -> None:
        self._value = value
        self._type = onnx_type or (
            f"tensor({element_type_of(value.dtype)})" if isinstance(value, np.ndarray) else _type_of(value)
        )

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Any, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """The value of an array, which is copied only if it is not contiguous."""
        check_device(device_type, device_id)
        if not isinstance(numpy_obj, (np.ndarray, np.generic)):
            raise ArgumentTypeError("numpy_obj", expected="a NumPy array", actual=type(numpy_obj).__name__)
        array = np.asarray(numpy_obj)
        return cls(array if array.flags.c_contiguous and array.flags.aligned else array.copy(order="C"))

    @classmethod
    def ortvalue_from_numpy_with_onnx_type(cls, data: Any, /, onnx_element_type: int) -> OrtValue:
        """The bits of an array as another type of the same width (ONNX's number)."""
        dtype = resolve_type(onnx_element_type)
        if not isinstance(data, np.ndarray) or data.dtype.itemsize != dtype.itemsize or data.dtype.hasobject:
            raise BindingError("data", expected=f"an array of {dtype.itemsize} bytes each", actual=_shown(data))
        return cls(np.ascontiguousarray(data).view(native_dtype(dtype)), dtype.tensor_type)

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
        memory_info: None = None,
    ) -> OrtValue:
        """Zeros of a shape. ``element_type``: a NumPy type, or ONNX's number."""
        check_device(device_type, device_id)
        if memory_info is not None:
            raise BindingError("memory_info", expected="None", actual=type(memory_info).__name__)
        dtype = resolve_type(element_type)
        try:
            return cls(np.zeros(_dims(shape), native_dtype(dtype)), dtype.tensor_type)
        except (MemoryError, ValueError) as error:
            raise BindingError(f"no memory for shape {list(shape)}: {error}") from None

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """The value of another library's tensor, or of a capsule, in the same memory."""
        try:
            array = np.from_dlpack(data if hasattr(data, "__dlpack__") else _Capsule(data))
        except (BufferError, TypeError, RuntimeError, ValueError) as error:
            raise ArgumentTypeError(f"not a tensor that DLPack hands over here: {error}") from None
        given = getattr(data, "dtype", None)
        if array.dtype == np.uint8 and getattr(given, "name", str(given)) in ("bool", "bool_", "torch.bool"):
            array = array.view(np.bool_)  # older versions of DLPack have no bool
        return cls.ortvalue_from_numpy(array)

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        """A DLPack capsule of the same memory."""
        array = self.numpy()
        try:
            return array.__dlpack__(stream=stream, **options)
        except (BufferError, TypeError, RuntimeError) as error:
            raise BindingError(f"{self._type} cannot be handed over by DLPack: {error}") from None

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU."""
        return _DLPACK_CPU

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        return np.array(array, dtype=dtype, copy=copy) if copy is not None else np.asarray(array, dtype=dtype)

    def numpy(self) -> Array:
        """The array itself."""
        if not isinstance(self._value, np.ndarray):
            raise BindingError("numpy()", expected="a tensor", actual=self._type)
        return self._value

    def value(self) -> Any:
        """The array, or the Python value, as ``run`` gives it."""
        return self._value

    def update_inplace(self, data: Any) -> None:
        """Copies an array, or an OrtValue, of the same type and shape into this value's memory."""
        source = data.numpy() if isinstance(data, OrtValue) else data
        if not isinstance(source, np.ndarray):
            raise ArgumentTypeError("data", expected="a NumPy array or an OrtValue", actual=type(data).__name__)
        own = self.numpy()
        if source.shape != own.shape or source.dtype != own.dtype:
            raise BindingError("data does not fit", expected=_shown(own), actual=_shown(source))
        if not own.flags.writeable:
            raise BindingError("the memory of this value cannot be written")
        own[...] = source

    def shape(self) -> list[int]:
        """The array's dims."""
        return list(self.numpy().shape)

    def data_type(self) -> str:
        """ONNX's name of the type, such as ``tensor(float)``."""
        return self._type

    def element_type(self) -> int:
        """ONNX's number of the element type."""
        self.numpy()
        return ONNX_CODES[self._type[len("tensor(") : -1]]

    def tensor_size_in_bytes(self) -> int:
        """Bytes of the array's elements."""
        return int(self.numpy().nbytes)

    def data_ptr(self) -> int:
        """The address of the first element."""
        if self._type == "tensor(string)":
            raise BindingError("data_ptr()", expected="a tensor of numbers", actual=self._type)
        return int(self.numpy().ctypes.data)

    def device_name(self) -> str:
        """``"cpu"``."""
        return "cpu"

    def has_value(self) -> bool:
        """Whether an optional has one; all else has."""
        return self._value is not None

    def is_tensor(self) -> bool:
        """Whether this is an array."""
        return isinstance(self._value, np.ndarray)

    def is_sparse_tensor(self) -> bool:
        """False: there are no sparse tensors."""
        return False

    def is_tensor_sequence(self) -> bool:
        """Whether this is a sequence."""
        return isinstance(self._value, (list, tuple))

    def __repr__(self) -> str:
        return f"OrtValue({_shown(self._value)}, {self._type!r})"


def _type_of(value: object) -> str:
    if isinstance(value, (list, tuple)):
        inner = value[0] if value else None
        return f"seq({_type_of(inner)})" if inner is not None else "seq"
    if isinstance(value, np.ndarray):
        return f"tensor({element_type_of(value.dtype)})"
    if value is None:
        return "optional"
    return "map" if isinstance(value, dict) else type(value).__name__


def _shown(value: object) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


class OrtDevice:
    """The CPU; all other devices are refused with BindingError."""

    def __init__(self, device_type: str = "cpu", device_id: int = 0) -> None:
        check_device(device_type, device_id)

    @staticmethod
    def make(device_type: str, device_id: int = 0, vendor_id: int = -1) -> OrtDevice:
        """The device of that name."""
        return OrtDevice(device_type, device_id)

    def device_type(self) -> str:
        """``"cpu"``."""
        return "cpu"

    def device_id(self) -> int:
        """0."""
        return 0


def values_of(feed: Any) -> dict[str, Any]:
    """A feed of OrtValues as one of arrays and Python values. Raises ArgumentTypeError."""
    wrong = [n for n, v in feed.items() if not isinstance(v, OrtValue)] if isinstance(feed, dict) else [feed]
    if wrong:
        raise ArgumentTypeError("input_dict_ort_values", expected="OrtValues by name", actual=repr(wrong[0]))
    return {name: value.value() for name, value in feed.items()}
