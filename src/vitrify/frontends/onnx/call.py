"""What a rule sees of the node it imports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import onnx

from vitrify.frontends.onnx.attributes import Attributes
from vitrify.frontends.onnx.body import Array, Body, Contents, Tensor, backward_slice, known_tensor
from vitrify.frontends.onnx.registry import Refusals
from vitrify.frontends.onnx.symbols import Choices, SymbolTable
from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.dtypes import I64, DType
from vitrify.ir.graph import BindDim, Graph, Value

MAX_RANK = 64
Branch = Callable[[onnx.GraphProto, Body, str, Mapping[str, Tensor]], list[Tensor]]  # the last: the graph's inputs


class Call(Refusals):
    """One node: its inputs as tensors, its attributes, and the builder of the body it stands in."""

    def __init__(
        self,
        source: str,
        inputs: Sequence[Tensor | None],
        wanted: Sequence[bool],
        attributes: Attributes,
        body: Body,
        opset: int,
        path: str,
        choices: Choices,
        branch: Branch,
        layouts: list[Any] | None = None,
    ) -> None:
        self.source = source
        self.inputs = inputs
        self.wanted = wanted
        self.attributes = attributes
        self.body = body
        self.b = body.builder
        self.opset = opset
        self.path = path
        self.choices = choices
        self.branch = branch
        self.layouts = [] if layouts is None else layouts  # of what its graphs give

    def inside(self, body: Body) -> Call:
        """The same node, building into another body."""
        other = copy(self)
        other.body, other.b = body, body.builder
        return other

    @property
    def symbols(self) -> SymbolTable:
        return self.body.symbols

    # Inputs.
    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def tensor(self, index: int) -> Tensor:
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            self.invalid(f"input {index} is missing")
        return found

    def value(self, index: int) -> Value:
        return self.body.resolve(self.tensor(index))

    def optional(self, index: int) -> Value | None:
        return self.value(index) if self.has(index) else None

    def values(self) -> list[Value]:
        """All inputs, of which there must be one."""
        return [self.value(i) for i in range(max(len(self.inputs), 1))]

    def contents(self, index: int) -> Contents | None:
        """One integer expression per element, also of what constants alone compute."""
        tensor = self.tensor(index)
        if tensor.contents is None and tensor.array is None:
            array = self.constant(index)
            if array is not None and array.dtype.kind in "iub":
                return array.astype(object)
        return tensor.contents

    def constant(self, index: int) -> Array | None:
        """The elements, where they depend on constants alone."""
        tensor = self.tensor(index)
        if tensor.array is not None or tensor.value is None:
            return tensor.array
        nodes = backward_slice(tensor.value, 256)
        if nodes is None:
            return None
        from vitrify.ir.interpret import interpret

        (tensor.array,) = interpret(Graph((), (tensor.value,), nodes), {})
        return tensor.array

    def needed(self, index: int, what: str) -> Array:
        """A constant. Where it is none, the node is unsupported."""
        array = self.constant(index)
        if array is None:
            self.unsupported(f"{what} is not a constant")
        return array

    def scalar(self, index: int, what: str) -> float:
        array = self.needed(index, what)
        self.check(array.size == 1, f"{what} has shape {list(array.shape)}, not one element")
        return float(array.reshape(()).astype(np.float64))

    def dims(self, index: int) -> list[DimLike] | None:
        """The contents of a tensor of rank 0 or 1."""
        self.check(self.tensor(index).rank <= 1, f"input {index} has rank {self.tensor(index).rank}, not 1")
        contents = self.contents(index)
        return None if contents is None else [self.body.simplify(d) for d in contents.reshape(-1)]

    def length(self, index: int) -> int:
        """The number of elements of a tensor of rank 0 or 1 that gives sizes, one per axis."""
        shape = self.tensor(index).shape
        self.check(len(shape) <= 1, f"input {index} has rank {len(shape)}, not 1")
        count = shape[0] if shape else 1
        if not isinstance(count, int):
            self.unsupported("a result whose rank only a run knows")
        self.check(count <= MAX_RANK, f"a rank of {count}")
        return count

    def integers(self, index: int, name: str) -> list[int] | None:
        """Integers that are an attribute or, in later opsets, an input; None where both are left out."""
        given = self.attributes.integers(name)
        if given is not None or not self.has(index):
            return given
        dims = self.dims(index)
        if dims is None or not all(isinstance(d, int) for d in dims):
            self.unsupported(f"{name} is not a constant")
        return [int(d) for d in dims if isinstance(d, int)]

    def axis(self, axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            self.invalid(f"axis {axis} of a tensor of rank {rank}")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        result = tuple(self.axis(a, rank) for a in axes)
        self.check(len(set(result)) == len(result), f"axes {list(axes)} repeat")
        return result

    # Sizes.
    def known(self, contents: Contents, dtype: DType = I64) -> Tensor:
        return known_tensor(contents, dtype)

    def assume(self, a: DimLike, b: DimLike) -> None:
        """Every run must find these sizes equal."""
        self.body.assume(a, b, self.source)

    def match(self, x: Value, shape: Shape) -> Value:
        """``x`` as ``shape``, whose sizes it must have."""
        self.check(x.rank == len(shape), f"{x.type} has rank {x.rank}, not {len(shape)}")
        for a, b in zip(x.shape, shape, strict=True):
            if a != b:
                self.assume(a, b)
        return self.b.reshape(x, shape)

    def match_axis(self, x: Value, axis: int, size: DimLike) -> Value:
        return self.match(x, (*x.shape[:axis], size, *x.shape[axis + 1 :]))

    def bind(self, x: Value) -> Dim:
        """The integer tensor of one element ``x`` as a size from here on."""
        symbol = self.symbols.run_time(self.source.split("'")[-2] if "'" in self.source else self.source)
        scalar = self.b.cast(self.b.reshape(x, ()), I64)
        name = next(iter(symbol.terms))[0][0]
        self.b.one(BindDim(getattr(name, "name", str(symbol))), scalar)
        return symbol

    def broadcast_shape(self, shapes: Sequence[Shape]) -> Shape:
        """NumPy's rule; sizes that are neither 1 nor provably equal are assumed equal."""
        rank = max(len(s) for s in shapes)
        result: list[DimLike] = []
        for axis in range(-rank, 0):
            sizes = [s[axis] for s in shapes if len(s) >= -axis and s[axis] != 1]
            target: DimLike = 1
            if sizes:
                target = next((n for n in sizes if isinstance(n, int)), sizes[0])
                for size in sizes:
                    if size != target:
                        self.assume(size, target)
            result.append(target)
        return tuple(result)

    def aligned(self, x: Value, shape: Shape) -> Value:
        """``x`` with the sizes of ``shape`` wherever it is not 1, ready to broadcast to it."""
        target = shape[len(shape) - x.rank :]
        return self.b.reshape(x, [n if n == 1 else t for n, t in zip(x.shape, target, strict=True)])

    def expand(self, x: Value, shape: Shape) -> Value:
        return self.b.expand_to(self.aligned(x, shape), shape)

    def broadcast(self, *values: Value) -> tuple[Value, ...]:
        shape = self.broadcast_shape([v.shape for v in values])
        return tuple(self.expand(v, shape) for v in values)

    def map(self, fn: str, *values: Value) -> Value:
        """NumPy broadcasting, then the scalar function."""
        shape = self.broadcast_shape([v.shape for v in values])
        return self.b.map(fn, *(self.aligned(v, shape) for v in values))

    def number(self, number: float | int | bool, like: Value) -> Value:
        """A constant of rank 0 in the dtype of ``like``; it broadcasts."""
        return self.b.constant(number, like.dtype)
