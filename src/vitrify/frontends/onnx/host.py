"""Values that are no tensors of numbers, and the program that a session runs for them around the plan.

A sequence or optional whose structure the import knows is a list of values, and nothing of it is left at run
time. What only a run has (strings, sequences of unknown length) goes through host ops: before the plan where
they need the model's inputs alone, after it where they need its results.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import numpy as np

from vitrify.artifact.manifest import Edge, Host, Literal, Setting, Step, is_edge_type
from vitrify.frontends.onnx.body import Array, Body, Tensor
from vitrify.frontends.onnx.registry import Unsupported
from vitrify.ir.dims import Dim, DimLike, Shape
from vitrify.ir.dtypes import BY_ONNX, DType
from vitrify.ir.graph import Graph, Type, Value

STRINGS = "tensor(string)"
LITERAL_LIMIT = 1 << 20  # bytes of a numeric constant in the manifest


@dataclass(eq=False)
class Slot:
    """A value of the host program; its number is known once all are."""

    late: bool = False  # only after the plan has run
    number: int = -1


@dataclass(eq=False)
class HostValue:
    """A value that only a run has. ``shape`` is that of a tensor or of a sequence's elements, None where the
    rank is not known."""

    kind: str
    shape: Shape | None
    slot: Slot


@dataclass(eq=False)
class Items:
    """A sequence of known length; ``element`` is the kind of its elements."""

    element: str
    items: list[Held]

    @property
    def kind(self) -> str:
        return f"seq({self.element})"


@dataclass(eq=False)
class Maybe:
    """An optional that is known to have an element, or None; ``element`` is the element's kind."""

    element: str
    item: Held | None

    @property
    def kind(self) -> str:
        return f"optional({self.element})"


Held = Union[Tensor, HostValue, Items, Maybe]
Made = tuple[str, "Shape | None"]  # kind and shape of a result


def kind_of(held: Held) -> str:
    return f"tensor({held.dtype.onnx})" if isinstance(held, Tensor) else held.kind


def dtype_of_kind(kind: str) -> DType | None:
    """The dtype of a tensor of numbers, None for any other kind."""
    return BY_ONNX.get(kind[7:-1]) if kind.startswith("tensor(") else None


def inner_kind(kind: str) -> str:
    """The kind of the elements of a sequence or optional."""
    return kind.partition("(")[2][:-1]


def refusal(held: Held) -> str:
    """Why a tensor op cannot take it."""
    kind = kind_of(held)
    if not isinstance(held, HostValue):
        return f"an input of type {kind}"
    if dtype_of_kind(kind) is None:
        return f"an input of type {kind}, which is only known when the model runs"
    if held.slot.late:
        return f"needs a {kind} that a host op makes from the plan's results: host ops run before or after it"
    return f"a {kind} of unknown rank"


@dataclass(eq=False)
class _Made:
    step: Step
    inputs: list[Slot | None]
    outputs: list[Slot]


@dataclass(eq=False)
class Program:
    """The host program of one import, and the plan's inputs and outputs around it."""

    root: Body
    edges: list[Edge] = field(default_factory=list)
    _inputs: list[Slot] = field(default_factory=list)
    _constants: list[tuple[Literal, Slot]] = field(default_factory=list)
    _steps: list[_Made] = field(default_factory=list)
    _fed: dict[Value, Slot] = field(default_factory=dict)
    _own: set[Value] = field(default_factory=set)  # plan inputs that are the session's too
    _drawn: dict[Value, Slot] = field(default_factory=dict)  # plan outputs that steps read
    _slots: dict[object, Slot] = field(default_factory=dict)

    # Values
    def input(self, name: str, kind: str, shape: Shape | None) -> HostValue:
        """The next input of the session."""
        if not is_edge_type(kind):
            raise Unsupported(f"type {kind}")
        slot = Slot()
        self._inputs.append(slot)
        dims = None if shape is None else tuple(n if isinstance(n, int) else str(n) for n in shape)
        self.edges.append(Edge(name, kind, dims))
        return HostValue(kind, shape, slot)

    def feed(self, name: str, dtype: DType, shape: Sequence[DimLike], slot: Slot, *, own: bool = False) -> Tensor:
        """An input of the plan; ``own`` keeps it even where nothing reads it."""
        value = Value(Type(dtype, tuple(shape)), name)
        self._fed[value] = slot
        if own:
            self._own.add(value)
        return Tensor(dtype, value.shape, value=value, home=self.root)

    def constant(self, array: Array, dtype: str) -> HostValue:
        """A constant; of strings where ``dtype`` is ``string``."""
        slot = Slot()
        strings = dtype == "string"
        data = tuple(map(str, array.reshape(-1))) if strings else (base64.b64encode(array.tobytes()).decode(),)
        self._constants.append((Literal(dtype, array.shape, data), slot))
        return HostValue(STRINGS if strings else dtype, array.shape, slot)

    def slot(self, held: Held) -> Slot:
        """Where host ops find it; a result of the plan becomes one of its outputs."""
        if isinstance(held, HostValue):
            return held.slot
        if isinstance(held, Tensor) and held.value in self._fed:
            return self._fed[held.value]
        key = held.value if isinstance(held, Tensor) and held.value is not None else held
        if key not in self._slots:
            self._slots[key] = self._new_slot(held)
        return self._slots[key]

    def _new_slot(self, held: Tensor | Items | Maybe) -> Slot:
        if isinstance(held, Items):
            return self.step("SequenceConstruct", "sequence", list(held.items), 1)[0]
        if isinstance(held, Maybe):
            return self.step("Absent", "optional", [], 1)[0] if held.item is None else self.slot(held.item)
        if held.array is not None and held.array.nbytes <= LITERAL_LIMIT:
            return self.constant(held.array, held.dtype.name).slot
        value = self.root.resolve(held)
        return self._drawn.setdefault(value, Slot(late=True))

    def step(
        self, op: str, source: str, inputs: Sequence[Held | None], outputs: int,
        settings: Mapping[str, Setting] | None = None,
    ) -> list[Slot]:  # fmt: skip
        """Adds a step and gives its results. Raises ``runtime.host.ops.Failure`` for settings that do not fit."""
        from vitrify.runtime.host.ops import prepare

        step = Step(op, source, (), outputs, dict(settings or {}))
        prepare(step)
        slots = [None if held is None else self.slot(held) for held in inputs]
        late = any(slot is not None and slot.late for slot in slots)
        made = _Made(step, slots, [Slot(late) for _ in range(outputs)])
        self._steps.append(made)
        return made.outputs

    def result(self, name: str, kind: str, shape: Shape | None, slot: Slot) -> Held:
        """A step's result: an input of the plan where the plan can have it."""
        dtype = dtype_of_kind(kind)
        if dtype is None or shape is None or slot.late:
            return HostValue(kind, shape, slot)
        return self.feed(name, dtype, shape, slot)

    # The end of an import
    @property
    def plain(self) -> bool:
        """Whether nothing happens outside the plan."""
        return not self._steps and len(self._fed) == len(self._own) == len(self._inputs)

    def finish(self, names: Sequence[str], outputs: Sequence[Held], graph_name: str) -> tuple[Graph, Host | None]:
        """The plan's graph and the host program, None where there is none to run."""
        if self.plain and all(isinstance(held, Tensor) for held in outputs):
            values = [self.root.resolve(held) for held in outputs if isinstance(held, Tensor)]
            graph = self.root.builder.build(list(self._fed), values, graph_name)
            graph.output_names = tuple(names)
            return graph, None
        results = [self._result_slot(held) for held in outputs]
        read = {value for node in self.root.builder.nodes for value in node.inputs} | set(self._drawn)
        fed = [value for value in self._fed if value in self._own or value in read]
        graph = self.root.builder.build(fed, list(self._drawn), graph_name)
        labels = {id(slot): name for slot, name in zip(reversed(results), reversed(names), strict=True)}
        graph.output_names = _unique([labels.get(id(s), v.name or "value") for v, s in self._drawn.items()])
        for value, name in zip(fed, _unique([v.name or "value" for v in fed]), strict=True):
            value.name = name
        self._number()
        edges = tuple(_output_edge(name, held) for name, held in zip(names, outputs, strict=True))
        host = Host(
            tuple(self.edges), edges, tuple(literal for literal, _ in self._constants), self._encoded(late=False),
            tuple(self._fed[value].number for value in fed), self._encoded(late=True),
            tuple(slot.number for slot in results),
        )  # fmt: skip
        return graph, host

    def _result_slot(self, held: Held) -> Slot:
        """As :meth:`slot`; constants are the plan's, which gives new arrays."""
        if isinstance(held, Tensor) and held.value not in self._fed:
            return self._drawn.setdefault(self.root.resolve(held), Slot(late=True))
        return self.slot(held)

    def _number(self) -> None:
        early = [slot for made in self._steps if not _is_late(made) for slot in made.outputs]
        late = [slot for made in self._steps if _is_late(made) for slot in made.outputs]
        constants = [slot for _, slot in self._constants]
        for number, slot in enumerate([*self._inputs, *constants, *early, *self._drawn.values(), *late]):
            slot.number = number

    def _encoded(self, *, late: bool) -> tuple[Step, ...]:
        return tuple(
            made.step._replace(inputs=tuple(-1 if s is None else s.number for s in made.inputs))
            for made in self._steps
            if _is_late(made) is late
        )


def _is_late(made: _Made) -> bool:
    return any(slot is not None and slot.late for slot in made.inputs)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    taken: set[str] = set()
    result: list[str] = []
    for name in names:
        chosen, count = name, 1
        while chosen in taken:
            count += 1
            chosen = f"{name}.{count}"
        taken.add(chosen)
        result.append(chosen)
    return tuple(result)


def _output_edge(name: str, held: Held) -> Edge:
    kind = kind_of(held)
    shape = held.shape if isinstance(held, (Tensor, HostValue)) else None
    if not is_edge_type(kind):
        raise Unsupported(f"output {name!r} of type {kind}")
    shown = shape if kind.startswith("tensor(") else None
    return Edge(name, kind, None if shown is None else tuple(n if isinstance(n, int) else _amount(n) for n in shown))


def _amount(size: DimLike) -> int | str:
    return str(size) if isinstance(size, Dim) else int(size)


def setting(value: Any) -> Setting:
    """An attribute's value: an integer, float or string, or a list of one of them."""
    items = list(value) if isinstance(value, (list, tuple, np.ndarray)) else [value]
    if all(isinstance(item, str) for item in items) and items:
        return Setting("string", tuple(items))
    if any(isinstance(item, (float, np.floating)) for item in items):
        return Setting("float", tuple(float(item).hex() for item in items))
    return Setting("int", tuple(int(item) for item in items))
