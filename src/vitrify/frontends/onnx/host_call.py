"""``@host``: the rules of ops that take or give what is no tensor of numbers, and what such a rule sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.attributes import Attributes
from vitrify.frontends.onnx.body import Body, Tensor, constant_tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.host import Held, HostValue, Items, Made, Maybe, Program, kind_of, setting
from vitrify.frontends.onnx.registry import Refusals
from vitrify.ir.dims import Shape
from vitrify.ir.dtypes import BOOL, I64
from vitrify.ir.graph import Value

HostRule = Callable[["HostCall"], "Held | Value | Sequence[Held]"]
Inline = Callable[[onnx.GraphProto, str, "Sequence[Held]"], "list[Held]"]


@dataclass(frozen=True)
class HostRow:
    """``alone``: also for tensors alone; other rules need an input that is none."""

    since: int
    rule: HostRule
    alone: bool


_RULES: dict[tuple[str, str], list[HostRow]] = {}


def host(*names: str, since: int = 1, domain: str = "", alone: bool = False) -> Callable[[HostRule], HostRule]:
    """Registers what an op does to host values from opset ``since`` on."""

    def register(rule: HostRule) -> HostRule:
        for name in names:
            rows = _RULES.setdefault((domain, name), [])
            rows.append(HostRow(since, rule, alone))
            rows.sort(key=lambda row: row.since)
        return rule

    return register


def host_rule_of(domain: str, name: str, opset: int) -> HostRow | None:
    rows = [row for row in _RULES.get((domain, name), ()) if row.since <= opset]
    return rows[-1] if rows else None


def host_ops() -> dict[tuple[str, str], int]:
    """(domain, op) of every rule, with the opset it starts at."""
    return {key: rows[0].since for key, rows in _RULES.items()}


@dataclass
class HostCall(Refusals):
    """One node: its inputs, its attributes, and the program that its steps go into."""

    source: str
    inputs: Sequence[Held | None]
    names: Sequence[str]  # of the results
    attributes: Attributes
    body: Body
    program: Program
    opset: int
    path: str
    inline: Inline
    call: Callable[[Sequence[Tensor | None]], Call]  # what a rule for tensors would see

    # Inputs
    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def held(self, index: int) -> Held:
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            self.invalid(f"input {index} is missing")
        return found

    def optional(self, index: int) -> Held | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def kind(self, index: int) -> str:
        return kind_of(self.held(index))

    def shape(self, index: int) -> Shape | None:
        held = self.held(index)
        return held.shape if isinstance(held, (Tensor, HostValue)) else None

    def items(self, index: int) -> Items | None:
        """A sequence of known length, None where only a run knows it."""
        held = self.held(index)
        if isinstance(held, Maybe) and held.item is not None:
            held = held.item
        if isinstance(held, Items):
            return held
        if not kind_of(held).startswith(("seq(", "optional(seq(")):
            self.invalid(f"input {index} has the wrong type", expected="a sequence", actual=kind_of(held))
        return None

    def position(self, index: int) -> int | None:
        """A constant position, None where there is none; ``index`` may be left out by the caller's check."""
        held = self.held(index)
        if not isinstance(held, Tensor) or held.contents is None:
            return None
        self.check(held.contents.size == 1, f"the position has shape {list(held.shape)}, not one element")
        item = self.body.simplify(held.contents.reshape(-1)[0])
        return item if isinstance(item, int) else None

    # Results
    def fresh(self, rank: int, result: int = 0) -> Shape:
        """Sizes that each run has of its own."""
        name = self.names[result] if result < len(self.names) and self.names[result] else "host"
        place = self.path.replace("/", "_")
        return tuple(self.body.symbols.fresh(f"{name}{place}_{axis}") for axis in range(rank))

    def step(self, op: str, inputs: Sequence[Held | None], made: Sequence[Made], **settings: Any) -> list[Held]:
        """A step of the host program, with results of the kinds and shapes ``made``."""
        from vitrify.runtime.host.ops import Failure

        if self.body.parent is not None:
            self.unsupported("a host op inside a graph that only a run chooses")
        named = {name: setting(value) for name, value in settings.items() if value is not None}
        try:
            slots = self.program.step(op, self.source, inputs, len(made), named)
        except Failure as failure:
            raise InvalidModelError(f"{self.source}: {failure}", **failure.detail) from None  # type: ignore[arg-type]
        names = [*self.names, *[""] * len(made)]
        return [
            self.program.result(names[i] or f"host{i}", kind, shape, slot)
            for i, ((kind, shape), slot) in enumerate(zip(made, slots, strict=True))
        ]



def number_tensor(number: int) -> Tensor:
    return constant_tensor(np.asarray(number, np.int64), I64)


def boolean_tensor(value: bool) -> Tensor:
    return constant_tensor(np.asarray(value, np.bool_), BOOL)
