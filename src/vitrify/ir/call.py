"""Calls of ops that the user gives: what the graph needs to know of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitrify.ir.dims import Shape
from vitrify.ir.dtypes import DType
from vitrify.ir.node import Op, Type, require

Array = np.ndarray[Any, Any]
#: What an op computes: its arguments (None for one left out), its attributes as text, how many results it has.
Evaluate = Callable[[Sequence["Array | None"], str, int], list[Array]]


@dataclass(frozen=True)
class Call(Op):
    """An op by its label ``domain::name`` and version; ``digest`` is of its signature, and ``dtypes`` and ``shapes``
    of its results are what its rule gave. ``absent`` are positions among its arguments that are left out, all
    others are inputs in order. ``attributes`` are JSON. With ``c_source`` native code calls that; without, the
    process has to know the op, which its Python module ``origin`` registers. What is not ``pure`` is computed
    exactly as often as the graph says. ``evaluate`` is at hand where the op is registered; it has no text form.
    """

    op: str
    version: int
    digest: str
    dtypes: tuple[DType, ...]
    shapes: tuple[Shape, ...]
    attributes: str = "{}"
    absent: tuple[int, ...] = ()
    pure: bool = True
    c_source: str = ""
    c_file: str = ""
    origin: str = ""
    evaluate: Evaluate | None = field(default=None, compare=False, repr=False)

    def infer(self, inputs: Sequence[Type]) -> tuple[Type, ...]:
        domain, _, name = self.op.partition("::")
        require(bool(domain) and name.isidentifier(), f"call of {self.op!r}, which is no domain::name")
        require(self.version >= 1, f"call of {self.op} in version {self.version}")
        results = len(self.dtypes), len(self.shapes)
        require(results[0] == results[1] > 0, f"{self.op} has {results[0]} dtypes and {results[1]} shapes of results")
        count = len(inputs) + len(self.absent)
        inside = sorted(set(self.absent)) == list(self.absent) and all(0 <= i < count for i in self.absent)
        require(inside, f"{self.op} of {count} arguments leaves out {list(self.absent)}")
        negative = [n for shape in self.shapes for n in shape if isinstance(n, int) and n < 0]
        require(not negative, f"{self.op} has results of the negative sizes {negative}")
        require(_is_object(self.attributes), f"{self.op}: the attributes are no JSON object")
        return tuple(Type(dtype, shape) for dtype, shape in zip(self.dtypes, self.shapes, strict=True))

    def arguments(self, given: Sequence[Any]) -> list[Any]:
        """``given`` with None for what is left out."""
        rest = iter(given)
        return [None if i in self.absent else next(rest) for i in range(len(given) + len(self.absent))]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def is_pure(op: Op) -> bool:
    """Whether computing the op once more, or not at all where nobody reads it, makes no difference."""
    if isinstance(op, Call):
        return op.pure
    return all(is_pure(node.op) for body in op.bodies for node in body.nodes)
