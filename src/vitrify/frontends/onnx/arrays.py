"""Tensors of the file as NumPy arrays. External data is mapped, from the model's directory alone."""

from __future__ import annotations

import mmap
import os
import sys
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from vitrify.errors import ExternalDataError, InvalidModelError
from vitrify.ir.dims import INT64_MAX
from vitrify.ir.dtypes import BY_ONNX, DType

Array = np.ndarray[Any, Any]

MOST_OVERLAP = 4  # bytes of tensors per byte of their file
HOLES_ALLOWED = 1 << 30  # bytes; a sparse file above that size is looked at
MOST_HOLES = 64  # bytes per byte that is on disk: file systems that compress reach a few dozen


def dtype_of(code: int) -> DType | None:
    """The row of an ONNX element type, None where there is none (strings, complex, e8m0, floats of 6 and 4 bits)."""
    return BY_ONNX.get(dtype_name(code))


def dtype_name(code: int) -> str:
    names = dict(zip(TensorProto.DataType.values(), TensorProto.DataType.keys(), strict=True))
    return str(names.get(code, f"unknown type {code}")).lower()


class UnsupportedDType(Exception):
    """A tensor of a type that has no row; the message names tensor and type."""


class ArrayReader:
    """Reads the tensors of one model; holds one mapping per external file."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._maps: dict[Path, memoryview] = {}
        self._regions: dict[Path, set[tuple[int, int]]] = {}  # what tensors claim of each file

    def read(self, tensor: TensorProto) -> Array:
        """The tensor, C-contiguous, in native byte order. It shares the file's memory where it can.

        Raises :class:`InvalidModelError`, :class:`ExternalDataError`, :class:`UnsupportedDType`.
        """
        dtype = dtype_of(tensor.data_type)
        if dtype is None:
            raise UnsupportedDType(f"tensor {tensor.name!r} of type {dtype_name(tensor.data_type)}")
        shape = tuple(tensor.dims)
        count = prod(shape)
        if any(n < 0 for n in shape) or prod(n for n in shape if n) * dtype.itemsize > INT64_MAX:
            raise InvalidModelError(f"tensor {tensor.name!r} has the impossible shape {list(shape)}")
        nbytes = (count * dtype.bits + 7) // 8
        if tensor.data_location == TensorProto.EXTERNAL:
            return _decode(self._external(tensor, nbytes), dtype, shape, tensor.name)
        if tensor.HasField("raw_data"):
            if len(tensor.raw_data) != nbytes:
                raise InvalidModelError(
                    f"tensor {tensor.name!r} does not fit its data",
                    expected=f"{nbytes} bytes",
                    actual=len(tensor.raw_data),
                )
            return _decode(memoryview(tensor.raw_data), dtype, shape, tensor.name)
        return _typed(tensor, dtype, shape)

    def _external(self, tensor: TensorProto, nbytes: int) -> memoryview:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        what = f"external data of tensor {tensor.name!r}"
        path = self._locate(entries.get("location", ""), what)
        offset = _count(entries.get("offset", "0"), "offset", what)
        length = _count(entries.get("length", str(nbytes)), "length", what)
        if length != nbytes:
            raise ExternalDataError(f"{what} has the wrong length", expected=f"{nbytes} bytes", actual=length)
        data = self._map(path, what)
        if offset + length > len(data):
            raise ExternalDataError(
                f"{what} lies outside {path.name}",
                expected=f"at least {offset + length} bytes",
                actual=f"{len(data)} bytes",
                hint="the file may be truncated",
            )
        self._claim(path, offset, length, len(data), what)
        return data[offset : offset + length]

    def _claim(self, path: Path, offset: int, length: int, size: int, what: str) -> None:
        """Tensors may be the same bytes, but a small file must not stand for many gigabytes of them."""
        regions = self._regions.setdefault(path, set())
        regions.add((offset, length))
        claimed = sum(length for _, length in regions)
        if claimed > MOST_OVERLAP * size:
            raise ExternalDataError(
                f"{what}: the tensors of {path.name} overlap each other",
                expected=f"at most {MOST_OVERLAP} times its {size} bytes",
                actual=f"{claimed} bytes",
            )

    def _locate(self, location: str, what: str) -> Path:
        """The file, inside the model's directory whatever links say. Raises :class:`ExternalDataError`."""
        if self._directory is None:
            raise ExternalDataError(
                f"{what} needs a directory",
                actual="a model given as bytes or proto",
                hint="import the model by its path",
            )
        parts = PurePosixPath(location.replace("\\", "/"))
        absolute = parts.is_absolute() or PureWindowsPath(location).drive or PureWindowsPath(location).is_absolute()
        if not location or "\0" in location or absolute or ".." in parts.parts:
            raise ExternalDataError(f"{what} has the path {location!r}", expected="a path below the model's directory")
        root = Path(os.path.realpath(self._directory))
        path = Path(os.path.realpath(root / parts))
        if root not in path.parents:
            raise ExternalDataError(f"{what} leads to {path}", expected=f"a file below {root}")
        if not path.is_file():
            raise ExternalDataError(f"{what} is missing", expected=f"the file {path}")
        return path

    def _map(self, path: Path, what: str) -> memoryview:
        if path not in self._maps:
            try:
                with path.open("rb") as file:
                    status = os.fstat(file.fileno())
                    empty = status.st_size == 0  # mmap refuses empty files
                    stored = status.st_blocks * 512
                    if status.st_size > HOLES_ALLOWED and stored * MOST_HOLES < status.st_size:
                        raise ExternalDataError(
                            f"{what}: {path.name} is mostly holes",
                            expected=f"at least one byte in {MOST_HOLES} of {status.st_size} on disk",
                            actual=f"{stored} bytes",
                            hint="if the file is meant so, copy it with cp --sparse=never",
                        )
                    content = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except OSError as error:
                raise ExternalDataError(f"{what} cannot be read: {error}") from error
            self._maps[path] = memoryview(content)
        return self._maps[path]


def _count(text: str, key: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > INT64_MAX:
        raise ExternalDataError(f"{what} has the {key} {text!r}", expected="a number of bytes")
    return int(text)


def _decode(data: memoryview, dtype: DType, shape: tuple[int, ...], name: str) -> Array:
    if dtype.bits < 8:
        packed, span = np.frombuffer(data, np.uint8), 1 << dtype.bits
        parts = np.stack([packed >> shift & (span - 1) for shift in range(0, 8, dtype.bits)], axis=-1)
        numbers = parts.reshape(-1)[: prod(shape)].astype(np.int8)
        signed = np.where(numbers >= span // 2, numbers - span, numbers) if dtype.min() else numbers
        return signed.astype(dtype.numpy).reshape(shape)
    if dtype.is_bool:
        truths: Array = np.frombuffer(data, np.uint8) != 0
        return truths.reshape(shape)
    array = np.frombuffer(data, dtype.numpy).reshape(shape)
    if sys.byteorder == "big":
        array = array.byteswap()
    return array if array.flags.aligned else array.copy()


def _typed(tensor: TensorProto, dtype: DType, shape: tuple[int, ...]) -> Array:
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, onnx.checker.ValidationError) as error:
        raise InvalidModelError(
            f"tensor {tensor.name!r} of shape {list(shape)} does not fit its data: {error}"
        ) from error
    return np.ascontiguousarray(array.astype(dtype.numpy, copy=False)).reshape(shape)
