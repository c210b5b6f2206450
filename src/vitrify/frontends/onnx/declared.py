"""What a model declares of the values inside it, against what its nodes give."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence

import onnx

from vitrify.errors import DeclaredShapeWarning, InvalidModelError, shortened
from vitrify.frontends.onnx.arrays import dtype_name
from vitrify.frontends.onnx.body import Tensor
from vitrify.frontends.onnx.host import Held

SHOWN = 5  # shapes that one warning lists


def wrong_shapes(graph: onnx.GraphProto, names: Mapping[str, Held | None]) -> list[str]:
    """The declared shapes that are not those of the values, in text; open dims fit any size.
    Raises InvalidModelError for a declared element type that is another than the value's."""
    return [text for info in (*graph.output, *graph.value_info) for text in _wrong(info, names.get(info.name))]


def _wrong(info: onnx.ValueInfoProto, held: Held | None) -> Iterator[str]:
    if not isinstance(held, Tensor) or info.type.WhichOneof("value") != "tensor_type":
        return
    declared = info.type.tensor_type
    if declared.elem_type and dtype_name(declared.elem_type) != held.dtype.onnx:
        raise InvalidModelError(
            f"{info.name!r} is declared with another type", expected=f"tensor({dtype_name(declared.elem_type)})",
            actual=f"tensor({held.dtype.onnx})", hint="correct the model's value_info, or remove it",
        )  # fmt: skip
    if not declared.HasField("shape"):
        return
    sizes = [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in declared.shape.dim]
    differs = any(
        isinstance(said, int) and isinstance(found, int) and said != found
        for said, found in zip(sizes, held.shape, strict=False)
    )
    if len(sizes) != len(held.shape) or differs:
        yield f"{info.name!r} is declared as {_text(sizes)}, and is {_text(held.shape)}"


def _text(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def warn_of(shapes: Sequence[str]) -> None:
    """One warning for all of them."""
    if shapes:
        more = f"\n  - and {len(shapes) - SHOWN} more" if len(shapes) > SHOWN else ""
        listed = "".join(f"\n  - {shortened(text)}" for text in shapes[:SHOWN])
        warnings.warn(
            f"the model declares shapes that are not those of its values, which are used:{listed}{more}",
            DeclaredShapeWarning, stacklevel=2,
        )  # fmt: skip
