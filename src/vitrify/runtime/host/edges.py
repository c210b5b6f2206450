"""A call with host values: what is fed is checked, the prologue runs, then the plan, then the epilogue."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ...artifact.dtypes import BY_NAME
from ...artifact.manifest import Edge, Host, Literal, Port, Step
from ...errors import ArtifactError, InvalidArgumentError, OutOfMemoryError
from ..feed import Problem, bind_dims, native_dtype, normalise, to_array
from .ops import Apply, Array, Failure, objects, prepare

_BY_TENSOR_TYPE = {dtype.tensor_type: dtype for dtype in BY_NAME.values()}
PlanCall = Callable[[Mapping[str, Array]], Any]


class Edges:
    """Called as the plan is: feed -> outputs, or the plan's status.

    ``call`` is the plan's call; ``inputs`` and ``dtypes`` are the plan's, ``outputs`` their number. Raises
    ArtifactError for a program with ops or settings that are not known.
    """

    def __init__(
        self, host: Host, inputs: Sequence[Port], dtypes: Sequence[np.dtype[Any]], outputs: int, call: PlanCall
    ) -> None:
        self._host = host
        self._inputs, self._dtypes, self._outputs, self._call = inputs, dtypes, outputs, call
        self._constants = [_constant(literal) for literal in host.constants]
        self._prologue = [(step, _prepared(step)) for step in host.prologue]
        self._epilogue = [(step, _prepared(step)) for step in host.epilogue]

    def __call__(self, feed: object) -> list[Any] | int:
        """Raises InvalidArgumentError for a feed that does not fit, and what the steps raise."""
        values = [*_taken(self._host.inputs, feed), *self._constants]
        _run(self._prologue, values)
        plan_feed = {port.name: values[at] for port, at in zip(self._inputs, self._host.feeds, strict=True)}
        if self._outputs:
            results = self._call(normalise(self._inputs, self._dtypes, plan_feed))
            if isinstance(results, int):
                return results
            values.extend(results)
        _run(self._epilogue, values)
        foreign = {id(array) for array in _arrays(values[: len(self._host.inputs) + len(self._constants)])}
        return [_own(values[at], foreign) for at in self._host.results]


def _arrays(value: Any) -> list[Array]:
    """All arrays in nested lists."""
    if isinstance(value, list):
        return [array for item in value for array in _arrays(item)]
    return [value] if isinstance(value, np.ndarray) else []


def _own(value: Any, foreign: set[int]) -> Any:
    """The value, with copies of arrays that the caller or the session goes on using."""
    if isinstance(value, list):
        return [_own(item, foreign) for item in value]
    if isinstance(value, np.ndarray) and (id(value) in foreign or not value.flags.owndata):
        return value.copy()
    return value


def _prepared(step: Step) -> Apply:
    try:
        return prepare(step)
    except Failure as failure:
        raise ArtifactError(f"manifest: {failure.at(step.source)}", hint="compile the model again") from None


def _run(steps: Sequence[tuple[Step, Apply]], values: list[Any]) -> None:
    for step, apply in steps:
        try:
            results = apply([None if at < 0 else values[at] for at in step.inputs])
        except Failure as failure:
            raise failure.at(step.source) from None
        except MemoryError as error:
            raise OutOfMemoryError(f"{step.source}: {error}") from None
        if len(results) != step.outputs:
            raise ArtifactError(
                f"manifest: host step {step.op!r} has the wrong number of results",
                expected=len(results), actual=step.outputs,
            )  # fmt: skip
        values.extend(results)


def _constant(literal: Literal) -> Array:
    """The array of a literal. Raises ArtifactError where its data does not fit its shape."""
    if literal.dtype == "string":
        if len(literal.values) != prod(literal.dims):
            raise ArtifactError(
                "manifest: a constant of strings", expected=f"{prod(literal.dims)} values", actual=len(literal.values)
            )
        return objects(literal.values, literal.dims)  # the manifest's dims are those of an array
    dtype = native_dtype(BY_NAME[literal.dtype])
    try:
        data = base64.b64decode("".join(literal.values), validate=True)
        return np.frombuffer(data, dtype).reshape(literal.dims)
    except ValueError as error:
        raise ArtifactError(f"manifest: a constant of {literal.dtype}: {error}") from None


# The feed.
def _taken(edges: Sequence[Edge], feed: object) -> list[Any]:
    """The session's inputs as values. Raises InvalidArgumentError that lists everything wrong with them."""
    if not isinstance(feed, Mapping):
        raise InvalidArgumentError(
            "input_feed", expected="a dict of input names to values", actual=type(feed).__name__,
            hint="call run(None, {name: value})",
        )  # fmt: skip
    names = {edge.name for edge in edges}
    problems = [f"{name!r}: not an input of the model" for name in feed if name not in names]
    values: list[Any] = []
    bound: dict[str, tuple[int, str]] = {}
    for edge in edges:
        if edge.name not in feed and not edge.type.startswith("optional("):
            problems.append(f"{edge.name!r}: missing")
            continue
        try:
            values.append(_value(feed.get(edge.name), edge.type, edge, bound))
        except Problem as problem:
            problems.append(f"{edge.name!r}: {problem}")
        except MemoryError as error:
            raise OutOfMemoryError(f"no memory for a copy of input {edge.name!r}: {error}") from None
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        expected = ", ".join(f"{edge.name}: {edge.type}" for edge in edges)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InvalidArgumentError(
            f"the inputs do not fit the model, {count}:\n{listed}", hint=f"the inputs are {expected or 'none'}"
        )
    return values


def _value(value: Any, kind: str, edge: Edge, bound: dict[str, tuple[int, str]] | None) -> Any:
    """``value`` as ``kind``. Named dims are compared across inputs, but not across a sequence's elements."""
    if kind.startswith("optional("):
        return None if value is None else _value(value, kind[9:-1], edge, bound)
    if value is None:
        raise Problem(f"expected {kind}, got None, which only an optional may be")
    if kind.startswith("seq("):
        if not isinstance(value, (list, tuple)):
            raise Problem(f"expected a list of {kind[4:-1]}, got {type(value).__name__}")
        return [_element(item, kind[4:-1], edge, place) for place, item in enumerate(value)]
    if kind.startswith("map("):
        return _map(value, kind)
    array = _strings(value) if kind == "tensor(string)" else _numbers(value, kind)
    if edge.dims is not None:
        bind_dims(Port(edge.name, "", edge.dims), array.shape, {} if bound is None else bound)
    return array


def _element(item: Any, kind: str, edge: Edge, place: int) -> Any:
    try:
        return _value(item, kind, edge, None)
    except Problem as problem:
        raise Problem(f"element {place}: {problem}") from None


def _numbers(value: Any, kind: str) -> Array:
    dtype = _BY_TENSOR_TYPE[kind]
    return to_array(value, dtype, native_dtype(dtype))


def _strings(value: Any) -> Array:
    """An array of Python strings; NumPy's own strings become those."""
    try:
        array = np.asarray(value) if isinstance(value, np.ndarray) else np.array(value, object)
    except (ValueError, TypeError) as error:
        raise Problem(f"not an array: {type(value).__name__} ({error})") from None
    if array.dtype.kind in "UT":
        array = array.astype(object)
    if array.dtype.kind != "O":
        raise Problem(f"expected strings, got {array.dtype}")
    for place, item in enumerate(array.reshape(-1)):
        if not isinstance(item, str):
            at = list(map(int, np.unravel_index(place, array.shape)))
            raise Problem(f"expected strings, got {type(item).__name__} at {at}")
    return array


_INTEGER_LIMIT = 1 << 63
_ITEMS: dict[str, tuple[type, ...]] = {
    "string": (str,), "int64": (int, np.integer), "float": (float, int, np.floating, np.integer)
}  # fmt: skip


def _map(value: Any, kind: str) -> dict[Any, Any]:
    key, _, item = kind[4:-1].partition(",")
    if not isinstance(value, Mapping):
        raise Problem(f"expected a dict of {key} to {item}, got {type(value).__name__}")
    name = item[7:-1]
    allowed = _ITEMS["float" if name in ("float", "double") else name]
    for k, v in value.items():
        for what, one, types in (("key", k, _ITEMS[key]), ("value", v, allowed)):
            if not isinstance(one, types) or isinstance(one, bool):
                raise Problem(f"expected a dict of {key} to {item}, got the {what} {one!r}")
            number: Any = one
            whole = types is _ITEMS["int64"]
            if whole and not -_INTEGER_LIMIT <= number < _INTEGER_LIMIT:
                raise Problem(f"the {what} {one} is outside 64 bits")
    return dict(value)
