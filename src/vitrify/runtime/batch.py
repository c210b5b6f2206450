"""Several requests in few runs: joined along axis 0 where the model allows it, and split again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..artifact.manifest import Port
from ..errors import ArgumentTypeError, InvalidArgumentError, VitrifyError
from .feed import Array, normalise

Feed = Mapping[str, Any]
Run = Callable[[Feed], list[Any]]


def run_batch(
    run: Run,
    requests: Sequence[Feed],
    most: int | None,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    dtypes: Sequence[np.dtype[Any]],
    joinable: bool,
) -> list[list[Any]]:
    """The outputs of each request, in order. Errors begin with the number of the request."""
    if isinstance(requests, Mapping) or not isinstance(requests, Sequence):
        raise ArgumentTypeError("input_feeds", expected="a list of feeds", actual=type(requests).__name__)
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InvalidArgumentError("max_batch_size", expected="a number of rows from 1, or None", actual=repr(most))
    axis = _batch_dim(inputs, outputs) if joinable else None
    if axis is None:
        return [_named(number, run, request) for number, request in enumerate(requests)]
    feeds = [_named(n, lambda feed: normalise(inputs, dtypes, feed), r) for n, r in enumerate(requests)]
    results: list[list[Any]] = [[] for _ in feeds]
    for group in _groups(feeds, most):
        for number, result in zip(group, _run_group(run, feeds, group), strict=True):
            results[number] = result
    return results


def _batch_dim(inputs: Sequence[Port], outputs: Sequence[Port]) -> str | None:
    """The name of the dim that is axis 0 of every input and output, and no other axis."""
    firsts = {port.dims[0] if port.dims else None for port in (*inputs, *outputs)}
    name = firsts.pop() if len(firsts) == 1 and inputs else None
    if not isinstance(name, str) or not name.isidentifier():
        return None
    others = [dim for port in (*inputs, *outputs) for dim in port.dims[1:] if isinstance(dim, str)]
    return None if any(name in dim for dim in others) else name


def _groups(feeds: Sequence[Mapping[str, Array]], most: int | None) -> list[list[int]]:
    """Requests whose arrays differ in axis 0 alone, in order, together at most ``most`` rows (one request may
    have more)."""
    groups: list[list[int]] = []
    open_group: dict[tuple[tuple[int, ...], ...], tuple[int, int]] = {}  # of a form: which group, its rows
    for number, feed in enumerate(feeds):
        arrays = list(feed.values())
        form, rows = tuple(a.shape[1:] for a in arrays), arrays[0].shape[0]
        at, used = open_group.get(form, (-1, 0))
        if at < 0 or (most is not None and used + rows > most):
            at, used = len(groups), 0
            groups.append([])
        groups[at].append(number)
        open_group[form] = (at, used + rows)
    return groups


def _run_group(run: Run, feeds: Sequence[Mapping[str, Array]], group: Sequence[int]) -> list[list[Any]]:
    if len(group) == 1:
        return [_named(group[0], run, feeds[group[0]])]
    names = list(feeds[group[0]])
    joined = {name: np.concatenate([feeds[n][name] for n in group]) for name in names}
    rows = [feeds[n][names[0]].shape[0] for n in group]
    try:
        outputs = run(joined)
    except VitrifyError:
        # One by one: the request at fault gets its name, and others do not need the memory of all.
        return [_named(number, run, feeds[number]) for number in group]
    ends = np.cumsum(rows)
    return [[array[end - n : end].copy() for array in outputs] for n, end in zip(rows, ends, strict=True)]


def _named(number: int, run: Callable[[Feed], Any], request: Feed) -> Any:
    try:
        return run(request)
    except VitrifyError as error:
        error.args = (f"request {number}: {error}",)
        raise
