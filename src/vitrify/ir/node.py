"""Types, values, nodes and graphs: what every structure of the tensor graph is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.dtypes import DType, from_numpy


@dataclass(frozen=True)
class Type:
    dtype: DType
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class TypeRuleError(TypeError):
    """An op does not fit the types of its inputs."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise TypeRuleError(message)


@dataclass(frozen=True, eq=False)  # equality by fields in each structure, by identity where there are bodies
class Op:
    """Base of the structures. ``infer`` raises :class:`TypeRuleError`."""

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        raise TypeError(f"{type(self).__name__} describes no structure")

    @property
    def name(self) -> str:
        return type(self).__name__.lower().rstrip("_")

    @property
    def bodies(self) -> tuple[Graph, ...]:
        return ()


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """``value`` is C-contiguous and never written to."""

    value: np.ndarray[Any, Any]

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        return (Type(from_numpy(self.value.dtype), self.value.shape),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return False
        a, b = self.value, other.value
        return a is b or (a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())

    def __hash__(self) -> int:
        return hash((self.value.dtype.name, self.value.shape, self.value.tobytes()[:4096]))


@dataclass(eq=False)
class Value:
    """One SSA value. ``node`` is None for a graph's inputs. Identity is equality."""

    type: Type
    name: str = ""
    node: Node | None = None
    index: int = 0

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def constant(self) -> np.ndarray[Any, Any] | None:
        """The array, where the value is a constant."""
        return self.node.op.value if self.node is not None and isinstance(self.node.op, Constant) else None


@dataclass(eq=False)
class Node:
    """``source`` names what the user wrote: ``"Conv 'stem.conv'"``."""

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    source: str = ""

    @property
    def output(self) -> Value:
        (value,) = self.outputs
        return value


def make_node(op: Op, inputs: Sequence[Value], source: str = "", names: Sequence[str] = ()) -> Node:
    """A node whose results have the types that ``op`` infers. Raises :class:`TypeRuleError`."""
    types = op.infer([v.type for v in inputs])
    node = Node(op, tuple(inputs), (), source)
    node.outputs = tuple(Value(t, names[i] if i < len(names) else "", node, i) for i, t in enumerate(types))
    return node


@dataclass(eq=False)
class Graph:
    """``nodes`` is in an order in which every value is defined before it is used.

    ``symbols`` are the named dims, with their bounds; those of a body are its outer graph's. ``assumptions``
    are pairs of expressions that every run must find equal (a model that is only defined there).
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: list[Node]
    name: str = ""
    symbols: dict[str, Dim] = field(default_factory=dict)
    assumptions: list[tuple[DimLike, DimLike]] = field(default_factory=list)
    output_names: tuple[str, ...] = ()

    def walk(self) -> Iterator[Node]:
        """All nodes, those of bodies after the node that holds them."""
        for node in self.nodes:
            yield node
            for body in node.op.bodies:
                yield from body.walk()

    def users(self) -> dict[Value, list[Node]]:
        """The nodes of this graph (not of its bodies) that read each value, once per use."""
        result: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                result.setdefault(value, []).append(node)
        return result


def listed(types: Iterable[Type]) -> str:
    return ", ".join(map(str, types))
