"""Nodes of ops that the user has registered: attributes as declared, types by the op's rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vitrify.custom_ops import Attribute, CustomOp, TensorSpec, attribute_text
from vitrify.errors import VitrifyError
from vitrify.frontends.onnx.attributes import Attributes
from vitrify.frontends.onnx.call import MAX_RANK, Call
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.dtypes import DType, from_numpy
from vitrify.ir.graph import Value


def registering_hint(problems: Iterable[str]) -> str | None:
    """What to do about ops that other domains than ONNX's own define."""
    foreign = any(p.endswith("the op is not supported") and "(ai.onnx" not in p for p in problems)
    return "vitrify.custom_op gives ops of other domains, before the model is compiled" if foreign else None


def call_registered(op: CustomOp, call: Call) -> Sequence[Value]:
    """The results of a node of ``op``."""
    attributes = {name: _attribute(call.attributes, name, row) for name, row in op.attributes.items()}
    count = max((i + 1 for i in range(len(call.inputs)) if call.has(i)), default=0)
    specs = [_spec(call, i) if call.has(i) else None for i in range(count)]
    try:
        found = op.infer(*specs, **{k: _copied(v) for k, v in attributes.items()})
    except VitrifyError:
        raise
    except Exception as error:  # noqa: BLE001  (the user's code may raise anything)
        call.invalid(f"the rule of {op.label} refuses the node: {type(error).__name__}: {error}")
    types = [_type(op, call, number, spec) for number, spec in enumerate(_listed(op, call, found))]
    made = g.Call(
        op.label, op.version, op.digest, tuple(t for t, _ in types), tuple(s for _, s in types),
        attribute_text(attributes), tuple(i for i in range(count) if not call.has(i)), op.pure,
        op.c_source, op.c_file, op.module, op.evaluate,
    )  # fmt: skip
    return call.b.add(made, *(call.value(i) for i in range(count) if call.has(i)))


def _spec(call: Call, index: int) -> TensorSpec:
    tensor = call.tensor(index)
    array = call.constant(index)
    return TensorSpec(tensor.dtype.numpy, tuple(tensor.shape), None if array is None else array.copy())


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, (list, np.ndarray)) else value


def _attribute(attributes: Attributes, name: str, row: Attribute) -> Any:
    """The node's attribute, the default where it has none. InvalidModelError for another kind."""
    if name not in attributes and row.default is not None:
        return _copied(row.default)
    match row.kind:
        case "int":
            return attributes.integer(name)
        case "float":
            return attributes.number(name)
        case "string":
            found: Any = attributes.text(name, "") if name in attributes else None
        case "ints":
            found = attributes.integers(name)
        case "floats":
            found = attributes.numbers(name)
        case "strings":
            found = attributes.texts(name)
        case _:
            found = attributes.tensor(name)
    if found is None:
        attributes.integer(name)  # which says that it is missing
    return found


def _listed(op: CustomOp, call: Call, found: Any) -> list[Any]:
    several = isinstance(found, (list, tuple)) and not isinstance(found, TensorSpec)
    specs = list(found) if several else [found]
    if not specs or not all(isinstance(s, TensorSpec) for s in specs):
        call.invalid(
            f"the rule of {op.label} gave no types", expected="a TensorSpec for each output",
            actual=", ".join(type(s).__name__ for s in specs) or "nothing",
        )  # fmt: skip
    return specs


def _type(op: CustomOp, call: Call, number: int, spec: TensorSpec) -> tuple[DType, Shape]:
    where = f"the rule of {op.label} for output {number}"
    try:
        dtype = from_numpy(np.dtype(spec.dtype))
    except (TypeError, KeyError):
        call.invalid(where, expected="a dtype of tensors", actual=repr(spec.dtype))
    if not isinstance(spec.shape, (tuple, list)) or len(spec.shape) > MAX_RANK:
        call.invalid(where, expected=f"a tuple of at most {MAX_RANK} sizes", actual=repr(spec.shape))
    sizes: list[DimLike] = []
    for size in spec.shape:
        if size is None:
            call.unsupported(f"{op.label} has an output whose sizes its rule leaves to the run")
        if isinstance(size, (int, np.integer)) and not isinstance(size, bool) and 0 <= size < 1 << 62:
            sizes.append(int(size))
        elif isinstance(size, Dim):
            sizes.append(size)
        else:
            call.invalid(where, expected="sizes from 0, or dims", actual=repr(size))
    return dtype, tuple(sizes)
