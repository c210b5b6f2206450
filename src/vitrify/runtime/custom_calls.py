"""Custom ops that run in Python: found when an artifact is loaded, called by its plan."""

from __future__ import annotations

import ctypes
from _thread import get_ident
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..artifact.dtypes import BY_NAME
from ..artifact.manifest import CustomCall, Slot
from ..custom_ops import CustomOp, read_attributes, registered
from ..errors import ArtifactError, CustomOpError, MissingCustomOpError
from .feed import Array, native_dtype

_WRITABLE = 0x200  # PyBUF_WRITE
_view = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)

#: What the last op that failed raised, by thread, until the run that called it ends.
_raised: dict[int, BaseException] = {}


class _Form(NamedTuple):
    dtype: np.dtype[Any]
    rank: int


class CustomCalls:
    """The ops of one artifact, called by number from native code. Raises MissingCustomOpError listing all that
    the process lacks, before anything runs."""

    def __init__(self, ops: Sequence[CustomCall]) -> None:
        self._calls: dict[int, _Call] = {}
        missing: dict[str, None] = {}
        modules: dict[str, None] = {}
        for number, op in enumerate(ops):
            if op.c_source:
                continue
            domain, _, name = op.label.partition("::")
            found = registered(domain, name, op.version)
            if found is None or found.digest != op.digest:
                why = "is not registered" if found is None else "is registered with another signature"
                missing.setdefault(f"{op.label} version {op.version} {why}")
                modules.setdefault(op.origin)
            else:
                self._calls[number] = _Call(op, found)
        if missing:
            likely = " or ".join(m for m in modules if m and m != "__main__")
            known = f"import {likely}, which registered it when the model was compiled" if likely else "register it"
            raise MissingCustomOpError(
                "the artifact needs custom ops of Python: " + "; ".join(missing),
                hint=f"{known} (vitrify.custom_op) before the session is made; ops with C source need none of this",
            )

    def __bool__(self) -> bool:
        return bool(self._calls)

    def __call__(self, number: int, operands: Any, dims: Any) -> int:
        try:
            self._calls[number].run(operands, dims)
        except BaseException as error:  # noqa: BLE001  (it goes on behind the native frames)
            _raised[get_ident()] = error
            return 1
        return 0


def take_raised() -> BaseException | None:
    """What the op raised that ended this thread's run."""
    return _raised.pop(get_ident(), None)


class _Call:
    """One op for arguments and results of fixed dtypes and ranks."""

    def __init__(self, stated: CustomCall, op: CustomOp) -> None:
        self._op, self._attributes = op, stated.attributes
        try:
            read_attributes(stated.attributes)
        except (ValueError, TypeError) as error:
            raise ArtifactError(
                f"manifest: the attributes of {stated.label}: {error}", hint="compile the model again"
            ) from None
        self._arguments = [None if slot is None else _form(slot) for slot in stated.arguments]
        self._results = [_form(slot) for slot in stated.results]

    def run(self, operands: Any, dims: Any) -> None:
        arguments: list[Array | None] = []
        at = first = 0
        for form in self._arguments:
            if form is None:
                arguments.append(None)
                continue
            # A copy: the op may keep its arguments, and this memory is used again.
            arguments.append(_memory(operands[at], form.dtype, dims[first : first + form.rank]).copy())
            at, first = at + 1, first + form.rank
        results = self._op.evaluate(arguments, self._attributes, len(self._results))
        for number, (form, found) in enumerate(zip(self._results, results, strict=True)):
            shape = tuple(dims[first : first + form.rank])
            if found.dtype != form.dtype or found.shape != shape:
                raise CustomOpError(
                    f"result {number} of {self._op.label} (version {self._op.version}) is not what its rule says",
                    expected=f"{form.dtype} of shape {list(shape)}",
                    actual=f"{found.dtype} of shape {list(found.shape)}",
                )
            _memory(operands[at], form.dtype, shape)[...] = found
            at, first = at + 1, first + form.rank


def _form(slot: Slot) -> _Form:
    return _Form(native_dtype(BY_NAME[slot.dtype]), slot.rank)


def _memory(address: int | None, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """The array at an address, which lives as long as the call."""
    size = prod(shape) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    if address is None:
        raise ArtifactError("an operand of a custom op has no memory", hint="compile the model again")
    return np.frombuffer(_view(address, size, _WRITABLE), np.uint8).view(dtype).reshape(shape)
