"""Inputs that are no tensors of numbers, as an import first meets them, and how graphs give them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import onnx

from vitrify.errors import InvalidArgumentError, InvalidModelError
from vitrify.frontends.onnx.arrays import Array, dtype_name
from vitrify.frontends.onnx.body import Tensor
from vitrify.frontends.onnx.host import (
    STRINGS,
    Held,
    HostValue,
    Items,
    Maybe,
    Program,
    dtype_of_kind,
    inner_kind,
    kind_of,
    setting,
)
from vitrify.frontends.onnx.registry import Unsupported
from vitrify.frontends.onnx.symbols import SymbolTable
from vitrify.ir.dims import DimLike, Shape

MAX_LENGTH = 1 << 16  # of a sequence whose elements are inputs of the plan
MAX_NESTING = 8

UNSTATED = object()  # no entry in input_shapes
Layout = Union[None, HostValue, tuple[str, str, Any]]  # None for a tensor


def kind_of_type(info: onnx.TypeProto, depth: int = 0) -> str:
    """``tensor(float)``, ``seq(tensor(float))``, ... Raises :class:`Unsupported` for a type that is not known."""
    which = info.WhichOneof("value")
    if depth > MAX_NESTING:
        raise Unsupported(f"a type nested more than {MAX_NESTING} deep")
    if which == "tensor_type":
        return f"tensor({dtype_name(info.tensor_type.elem_type)})"
    if which == "sequence_type":
        return f"seq({kind_of_type(info.sequence_type.elem_type, depth + 1)})"
    if which == "optional_type":
        return f"optional({kind_of_type(info.optional_type.elem_type, depth + 1)})"
    if which == "map_type":
        return f"map({dtype_name(info.map_type.key_type)},{kind_of_type(info.map_type.value_type, depth + 1)})"
    raise Unsupported(f"a {which or 'value without a type'}")


def _innermost(info: onnx.TypeProto) -> onnx.TypeProto.Tensor | None:
    """The tensor type inside a sequence or optional."""
    for _ in range(MAX_NESTING):
        which = info.WhichOneof("value")
        if which == "tensor_type":
            return info.tensor_type
        if which not in ("sequence_type", "optional_type"):
            return None
        info = getattr(info, which).elem_type
    return None


def declare(info: onnx.ValueInfoProto, stated: Any, program: Program, symbols: SymbolTable) -> Held:
    """The input ``info``. ``stated`` is its entry in ``input_shapes``: the shape of a tensor, a list of the
    elements' shapes of a sequence, None for an optional without element, else :data:`UNSTATED`.

    Raises :class:`Unsupported` and :class:`InvalidArgumentError`.
    """
    kind = kind_of_type(info.type)
    tensor = _innermost(info.type)
    shape: Shape | None = None
    if tensor is not None and tensor.HasField("shape"):
        dims: list[int | str | None] = [d.dim_value or d.dim_param or None for d in tensor.shape.dim]
        shape = _shape(dims, info.name, symbols)
    if kind == STRINGS and stated is not UNSTATED:
        shape = _fitting(info.name, shape, stated, symbols)
    given = program.input(info.name, kind, shape)
    if stated is UNSTATED or kind == STRINGS:
        return given
    return _known(info.name, given, stated, program, symbols)


def _shape(dims: Sequence[Any], name: str, symbols: SymbolTable) -> Shape:
    result: list[DimLike] = []
    for axis, size in enumerate(dims):
        if isinstance(size, bool) or not (size is None or isinstance(size, (int, str))):
            raise InvalidArgumentError(f"input_shapes of {name!r}", expected="sizes", actual=repr(size))
        if isinstance(size, int):
            result.append(size)
        else:
            result.append(symbols.named(size) if size else symbols.fresh(f"{name}_{axis}"))
    return tuple(result)


def _fitting(name: str, declared: Shape | None, stated: Any, symbols: SymbolTable) -> Shape:
    if isinstance(stated, str) or not isinstance(stated, Sequence):
        raise InvalidArgumentError(f"input_shapes of {name!r}", expected="a shape", actual=repr(stated))
    if declared is not None and len(declared) != len(stated):
        raise InvalidArgumentError(
            f"input_shapes of {name!r} has the wrong rank", expected=len(declared), actual=len(stated)
        )
    return _shape(stated, name, symbols)


def _known(name: str, given: HostValue, stated: Any, program: Program, symbols: SymbolTable) -> Held:
    """The input with the structure that ``stated`` gives it; each run is checked to have it."""
    if given.kind.startswith("optional("):
        inner = inner_kind(given.kind)
        present = program.step("Present", f"input {name!r}", [given], 1, {"present": setting(int(stated is not None))})
        if stated is None:
            return Maybe(inner, None)
        return Maybe(inner, _known(name, HostValue(inner, given.shape, present[0]), stated, program, symbols))
    if given.kind.startswith("seq("):
        if isinstance(stated, str) or not isinstance(stated, Sequence) or len(stated) > MAX_LENGTH:
            raise InvalidArgumentError(
                f"input_shapes of {name!r}", expected=f"a list of at most {MAX_LENGTH} shapes", actual=repr(stated)
            )
        inner = inner_kind(given.kind)
        slots = program.step("Unpack", f"input {name!r}", [given], len(stated))
        parts = [HostValue(inner, given.shape, slot) for slot in slots]
        named = [f"{name}[{i}]" for i in range(len(parts))]
        return Items(inner, [_known(n, p, s, program, symbols) for n, p, s in zip(named, parts, stated, strict=True)])
    if dtype_of_kind(given.kind) is None and given.kind != STRINGS:
        raise InvalidArgumentError(f"input_shapes of {name!r}", expected="no entry for this type", actual=given.kind)
    return program.result(name, given.kind, _fitting(name, given.shape, stated, symbols), given.slot)


def check_output(info: onnx.ValueInfoProto, held: Held) -> None:
    """Raises :class:`InvalidModelError` where a graph's output is declared with another type."""
    try:
        kind = kind_of_type(info.type)
    except Unsupported:  # nothing is declared
        return
    if "undefined" in kind:
        return
    actual = kind_of(held)
    if actual not in (kind, inner_kind(kind)) and inner_kind(actual) != kind:
        raise InvalidModelError(f"output {info.name!r} is declared with another type", expected=kind, actual=actual)


def string_array(tensor: onnx.TensorProto) -> Array:
    """The strings of a constant. Raises :class:`InvalidModelError` for wrong counts and bytes that are no text."""
    shape = tuple(tensor.dims)
    size = 1
    for n in shape:
        size *= n
    if any(n < 0 for n in shape) or size != len(tensor.string_data):
        raise InvalidModelError(
            f"tensor {tensor.name!r} does not fit its data", expected=f"{list(shape)}", actual=len(tensor.string_data)
        )
    result = np.empty(size, object)
    for i, data in enumerate(tensor.string_data):
        try:
            result[i] = data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidModelError(f"tensor {tensor.name!r}: element {i} is no UTF-8", actual=data[:40]) from None
    return result.reshape(shape)


# What graphs inside nodes give.
def flattened(results: Sequence[Held]) -> tuple[list[Tensor], list[Layout]]:
    """The tensors of the results, and how they were arranged."""
    tensors: list[Tensor] = []

    def visit(held: Held) -> Layout:
        if isinstance(held, Tensor):
            tensors.append(held)
            return None
        if isinstance(held, HostValue):
            return held
        if isinstance(held, Items):
            return "seq", held.element, [visit(item) for item in held.items]
        return "optional", held.element, [] if held.item is None else [visit(held.item)]

    return tensors, [visit(held) for held in results]


def regrouped(tensors: Sequence[Tensor | None], layouts: Sequence[Layout]) -> list[Held | None]:
    """The results arranged as they were; None where a tensor is."""
    queue = list(tensors)

    def build(layout: Layout) -> Held | None:
        if layout is None:
            return queue.pop(0)
        if isinstance(layout, HostValue):
            return layout
        which, element, inner = layout
        items = [build(one) for one in inner]
        whole = [item for item in items if item is not None]
        if len(whole) < len(items):
            return None
        return Items(element, whole) if which == "seq" else Maybe(element, whole[0] if whole else None)

    return [build(layout) for layout in layouts]
