"""Models changed before they are imported: other initial values, inputs with defaults, sizes by denotation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from vitrify.errors import ExternalDataError, InvalidArgumentError
from vitrify.frontends.onnx.load import ModelSource, read_model

Shape = list[int | str | None]


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs without a default value."""
    defaults = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in defaults]


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    """The declared dims; None where there are none, or no tensor."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    return [
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in value.type.tensor_type.shape.dim
    ]


def dim_names(model: ModelSource) -> set[str]:
    """The named dims of the model's inputs."""
    shapes = [_shape(value) for value in read_model(model)[0].graph.input]
    return {dim for shape in shapes for dim in shape or () if isinstance(dim, str)}


def batch_shapes(model: ModelSource, given: Mapping[str, Any]) -> dict[str, Any]:
    """``given`` with axis 0 of every input as one named dim, ``batch``, unless ``given`` says what it is."""
    shapes = dict(given)
    for value in _inputs(read_model(model)[0]):
        declared = _shape(value)
        if value.name not in shapes and declared:
            shapes[value.name] = ["batch", *declared[1:]]
    return shapes


def denoted_shapes(model: ModelSource, sizes: Mapping[str, int]) -> dict[str, Shape]:
    """The shapes of inputs that have dims of these denotations, with the sizes for them."""
    shapes: dict[str, Shape] = {}
    for value in _inputs(read_model(model)[0]):
        declared = _shape(value)
        if declared is None:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.denotation in sizes:
                shape = shapes.setdefault(value.name, declared)
                shape[axis] = sizes[dim.denotation]
    return shapes


def overridable(model: ModelSource) -> list[tuple[str, str, Shape]]:
    """Inputs that have a default value: name, element type as ONNX's number in text, dims."""
    proto = read_model(model)[0]
    values = {t.name: t for t in proto.graph.initializer}
    if proto.ir_version < 4:
        return []
    found = [(v, values[v.name]) for v in proto.graph.input if v.name in values]
    return [(v.name, onnx.TensorProto.DataType.Name(t.data_type).lower(), list(t.dims)) for v, t in found]


def open_shapes(model: ModelSource, overrides: Mapping[str, int], *, batch: bool) -> dict[str, Shape]:
    """The dims of the inputs: numbers, names, None; with ``overrides`` in the place of names, and axis 0 called
    ``batch`` where that is asked for."""
    found: dict[str, Shape] = {}
    for info in _inputs(read_model(model)[0]):
        shape = _shape(info)
        if shape is not None:
            shape = [overrides.get(dim, dim) if isinstance(dim, str) else dim for dim in shape]
            found[info.name] = ["batch", *shape[1:]] if batch and shape else shape
    return found


def without_defaults(model: ModelSource, names: set[str]) -> onnx.ModelProto:
    """The model whose inputs ``names`` have no default any more, so that they have to be fed."""
    proto = _complete(model, names)
    kept = [t for t in proto.graph.initializer if t.name not in names]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


def with_initializers(
    model: ModelSource, values: Mapping[str, np.ndarray[Any, Any]], required: frozenset[str]
) -> onnx.ModelProto:
    """The model with these initial values. Raises InvalidArgumentError for another type or shape, and for a name of
    ``required`` that the model has no initializer for; other such names change nothing."""
    proto = _complete(model, set(values))
    known = {t.name: t for t in proto.graph.initializer}
    if missing := sorted(required - known.keys()):
        raise InvalidArgumentError(
            "external initializers", expected=f"names among {', '.join(known)}", actual=", ".join(missing)
        )
    for name, array in values.items():
        if name not in known:
            continue
        tensor, new = known[name], onnx.numpy_helper.from_array(array, name)
        if (new.data_type, list(new.dims)) != (tensor.data_type, list(tensor.dims)):
            raise InvalidArgumentError(
                f"initializer {name!r}", expected=_described(tensor), actual=_described(new)
            )
        tensor.CopyFrom(new)
    return proto


def _described(tensor: onnx.TensorProto) -> str:
    return f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()} {list(tensor.dims)}"


def _complete(model: ModelSource, replaced: set[str]) -> onnx.ModelProto:
    """A copy of the model with its external data in it, but for the initializers ``replaced``."""
    source, directory = read_model(model)
    proto = onnx.ModelProto()
    proto.CopyFrom(source)
    for tensor in proto.graph.initializer:
        if tensor.name in replaced and uses_external_data(tensor):
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    try:
        load_external_data_for_model(proto, os.fspath(directory or ""))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ExternalDataError(f"the model's external data cannot be read: {error}") from None
    return proto
