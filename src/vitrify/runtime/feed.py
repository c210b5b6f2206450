"""Inputs that are not in native form: brought into it, or refused with all that is wrong at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..artifact.dtypes import BY_NAME, DType
from ..artifact.manifest import Port
from ..errors import InvalidArgumentError, OutOfMemoryError

Array = np.ndarray[Any, Any]

#: Python values and the NumPy kinds that they may become.
_KINDS = {"f": "f", "i": "iu", "u": "iu", "b": "b"}


def native_dtype(dtype: DType) -> np.dtype[Any]:
    """The NumPy type arrays of ``dtype`` have here: ml_dtypes' where it is installed and NumPy has none,
    otherwise the unsigned (for i4: signed) integer that carries the bits."""
    native: np.dtype[Any] = np.dtype(dtype.carrier)
    if dtype.extension:
        try:
            import ml_dtypes
        except ImportError:
            return native
        native = np.dtype(getattr(ml_dtypes, dtype.extension))
    return native


class Problem(Exception):
    """What is wrong with one input."""


def _shape_text(dims: Sequence[int | str]) -> str:
    return "[" + ", ".join(map(str, dims)) + "]"


def _from_python(value: object, dtype: np.dtype[Any], name: str) -> Array:
    """An array from a scalar or nested lists, if no value changes by it."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise Problem(f"not an array: {type(value).__name__} ({error})") from None
    if array.dtype.kind == "O" or (array.size and array.dtype.kind not in _KINDS.get(dtype.kind, "")):
        raise Problem(f"expected {name}, got {type(value).__name__} of {array.dtype}")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        least, greatest = int(array.min()), int(array.max())
        if least < limits.min or greatest > limits.max:
            raise Problem(f"expected {name}, got {least} to {greatest}, outside {limits.min} to {limits.max}")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def to_array(value: object, dtype: DType, native: np.dtype[Any]) -> Array:
    """``value`` as a C-contiguous, aligned array of exactly the dtype object ``native``."""
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
        if value.__class__ is not np.ndarray and np.ma.is_masked(value):
            raise Problem("a masked array, whose masked elements have no value; fill them with .filled(...)")
        try:
            array = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:
            raise Problem(f"not an array: {type(value).__name__} ({error})") from None
        found = array.dtype.newbyteorder("=") if array.dtype.byteorder in "<>" else array.dtype
        if found != native and not (dtype.extension and found in (np.dtype(dtype.carrier), _raw(dtype))):
            raise Problem(f"expected {dtype.name} ({native}), got {array.dtype}")
        if found != array.dtype:
            array = array.astype(found)
    else:
        array = _from_python(value, native, dtype.name)
    if not (array.flags.c_contiguous and array.flags.aligned):
        array = array.copy(order="C")
    return np.asarray(array).view(native) if array.dtype is not native else np.asarray(array)


def _raw(dtype: DType) -> np.dtype[Any]:
    """The unsigned integer of the same width: raw bits are accepted in it, too."""
    return np.dtype(f"u{dtype.itemsize}")


def _of_one(*sizes: int) -> str:
    return " (a dim of 1 is broadcast where input_shapes said so when the model was compiled)" if 1 in sizes else ""


def bind_dims(port: Port, shape: tuple[int, ...], bound: dict[str, tuple[int, str]]) -> None:
    """Compares a shape with the port's dims; a dim name is bound where it is first met."""
    if len(shape) != len(port.dims):
        raise Problem(
            f"expected rank {len(port.dims)} {_shape_text(port.dims)}, got rank {len(shape)} {shape}"
        )
    for axis, (want, have) in enumerate(zip(port.dims, shape, strict=True)):
        if isinstance(want, int):
            if want != have:
                raise Problem(
                    f"axis {axis}: expected {want}, got {have}; shape {_shape_text(port.dims)}, got {shape}"
                    f"{_of_one(have)}"
                )
        elif want.isidentifier():
            first, owner = bound.setdefault(want, (have, port.name))
            if first != have:
                other = f"{want} = {first} as in {owner!r}"
                raise Problem(f"axis {axis}: expected {other}, got {have}{_of_one(have, first)}")


def normalise(inputs: Sequence[Port], dtypes: Sequence[np.dtype[Any]], feed: object) -> dict[str, Array]:
    """The feed in native form: a dict of contiguous, aligned arrays of the expected dtypes.

    Copies only what has to be copied. Scalars and lists are taken when their values fit the type.
    Raises InvalidArgumentError that lists everything wrong with the feed, and OutOfMemoryError when there
    is no memory for a copy.
    """
    if not isinstance(feed, Mapping):
        raise InvalidArgumentError(
            "input_feed", expected="a dict of input names to arrays", actual=type(feed).__name__,
            hint="call run(None, {name: array})",
        )  # fmt: skip
    names = [port.name for port in inputs]
    problems = [f"{name!r}: missing" for name in names if name not in feed]
    extra = [name for name in feed if name not in names]
    problems += [f"{name!r}: not an input of the model" for name in extra]
    result: dict[str, Array] = {}
    bound: dict[str, tuple[int, str]] = {}
    mistyped = False
    for port, native in zip(inputs, dtypes, strict=True):
        if port.name not in feed:
            continue
        try:
            array = to_array(feed[port.name], BY_NAME[port.dtype], native)
        except Problem as problem:
            problems.append(f"{port.name!r}: {problem}")
            mistyped = True
            continue
        except MemoryError as error:
            raise OutOfMemoryError(f"no memory for a copy of input {port.name!r}: {error}") from None
        try:
            bind_dims(port, array.shape, bound)
        except Problem as problem:
            problems.append(f"{port.name!r}: {problem}")
        result[port.name] = array
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        expected = ", ".join(f"{port.name}: {port.dtype}{_shape_text(port.dims)}" for port in inputs)
        hint = f"the inputs are {expected or 'none'}"
        if mistyped:
            hint += "; convert with array.astype(...)"
        if extra:
            hint += "; the model's initializers are constants and cannot be fed"
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InvalidArgumentError(f"the inputs do not fit the model, {count}:\n{listed}", hint=hint)
    return result
