"""Profiles: which kernel took how long, how far that is from what the machine can do, and traces of runs."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_int64, cast
from typing import Any, NamedTuple

from ..artifact.amounts import evaluate
from ..artifact.manifest import Amount, Kernel, Manifest, Node
from ..errors import ArtifactError, InvalidArgumentError
from .machine import Limits
from .native import Span, Watch

_MOST_SPANS = 1 << 16  # of one run
_MOST_EVENTS = 1 << 20  # of a session


class KernelTime(NamedTuple):
    """The calls of one kernel in a run. ``share`` is of the run's time. ``flops`` and ``bytes`` are those of all
    calls, None where they depend on sizes that only the run knows. ``limit_fraction`` is the least time that
    the machine needs for so many float32 operations and bytes (:class:`vitrify.runtime.machine.Limits`), divided
    by the time taken. It is above 1 where work was less than counted: bfloat16, Winograd, data in a shared cache."""

    name: str
    nodes: tuple[str, ...]
    calls: int
    nanoseconds: int
    share: float
    flops: int | None
    bytes: int | None
    limit_fraction: float | None


class Event(NamedTuple):
    """A kernel call, or a whole run where ``kernel`` is -1. Nanoseconds of the monotonic clock."""

    kernel: int
    start: int
    end: int
    thread: int


class Recorder:
    """Memory that a run writes its times into."""

    def __init__(self, kernels: int) -> None:
        count = max(kernels, 1)
        self.counts, self.nanos = (c_int64 * count)(), (c_int64 * count)()
        self.spans = (Span * min(max(4 * count, 1024), _MOST_SPANS))()
        self.watch = Watch(
            None, cast(self.counts, POINTER(c_int64)), cast(self.nanos, POINTER(c_int64)),
            cast(self.spans, POINTER(Span)), len(self.spans),
        )  # fmt: skip

    def events(self) -> list[Event]:
        """The run and its calls, as far as there was room for them."""
        thread = threading.get_native_id()
        run = Event(-1, self.watch.start, self.watch.end, thread)
        spans = self.spans[: min(self.watch.seen, len(self.spans))]
        return [run, *(Event(s.kernel, s.start, s.end, thread) for s in spans)]

    @property
    def dropped(self) -> int:
        """Calls that there was no room for in ``events``; counts and times have them all."""
        return max(int(self.watch.seen) - len(self.spans), 0)


class Profile:
    """One run: its ``outputs``, ``nanoseconds`` in all, ``kernels`` (the slowest first), and ``other_nanoseconds``
    between kernels: control flow, sizes and allocations. ``limits`` is what the machine can do."""

    def __init__(
        self, outputs: Sequence[Any], recorder: Recorder, manifest: Manifest, kernels: Sequence[Kernel],
        dims: Mapping[str, int], limits: Limits,
    ) -> None:  # fmt: skip
        self.outputs = list(outputs)
        self.limits = limits
        self.nanoseconds: int = recorder.watch.end - recorder.watch.start
        self.kernels = [
            _kernel_time(kernel, manifest.nodes, recorder.counts[k], recorder.nanos[k], self.nanoseconds, dims, limits)
            for k, kernel in enumerate(kernels)
            if recorder.counts[k]
        ]
        self.kernels.sort(key=lambda kernel: -kernel.nanoseconds)
        self.other_nanoseconds = self.nanoseconds - sum(k.nanoseconds for k in self.kernels)
        known = [k._replace(flops=_known(k.flops, dims), bytes=_known(k.bytes, dims)) for k in kernels]
        self._trace = [Part(recorder.events(), manifest.nodes, known)], recorder.dropped

    def trace(self) -> list[dict[str, Any]]:
        """The run as a Chrome trace, which Perfetto opens."""
        return trace(*self._trace)

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`trace` as JSON."""
        write_trace(path, self.trace())

    def __str__(self) -> str:
        lines = [f"{'time us':>10} {'share':>6} {'calls':>6} {'GF/s':>7} {'GB/s':>7} {'limit':>6}  kernel: nodes"]
        for k in self.kernels:
            rate = [f"{x / max(k.nanoseconds, 1):7.1f}" if x is not None else "      ?" for x in (k.flops, k.bytes)]
            limit = "     ?" if k.limit_fraction is None else f"{k.limit_fraction:6.1%}"
            lines.append(
                f"{k.nanoseconds / 1e3:10.1f} {k.share:6.1%} {k.calls:6} {rate[0]} {rate[1]} {limit}  "
                f"{k.name}: {', '.join(k.nodes)}"
            )
        other = self.other_nanoseconds
        lines.append(f"{other / 1e3:10.1f} {other / max(self.nanoseconds, 1):6.1%} {'':30}  between kernels")
        return "\n".join(lines)


def _kernel_time(
    kernel: Kernel, nodes: Sequence[Node], calls: int, nanos: int, total: int, dims: Mapping[str, int], limits: Limits
) -> KernelTime:
    flops, traffic = (_amount(amount, calls, dims) for amount in (kernel.flops, kernel.bytes))
    fraction = None
    if flops is not None and traffic is not None and nanos:
        fraction = calls * limits.seconds(flops / calls, traffic / calls) / (nanos / 1e9)
    names = tuple(_node_name(nodes[n]) for n in kernel.nodes)
    return KernelTime(kernel.name, names, calls, nanos, nanos / max(total, 1), flops, traffic, fraction)


def _amount(amount: Amount, calls: int, dims: Mapping[str, int]) -> int | None:
    try:
        return calls * evaluate(amount, dims)
    except (InvalidArgumentError, ArtifactError):
        return None  # sizes that only the run knows


def _known(amount: Amount, dims: Mapping[str, int]) -> Amount:
    found = _amount(amount, 1, dims)
    return amount if found is None else found


def _node_name(node: Node) -> str:
    return f"{node.op} {node.name!r}" if node.name else node.op


class Part(NamedTuple):
    """Events of one artifact's runs, with the nodes and kernels that they count."""

    events: Sequence[Event]
    nodes: Sequence[Node]
    kernels: Sequence[Kernel]


class History:
    """The events of all runs of a session since it was made, and of sessions that run for it."""

    def __init__(self) -> None:
        self.start = time.monotonic_ns()
        self.written = False
        self._parts: list[Part] = []
        self._count = self._dropped = 0
        self._lock = threading.Lock()

    def add(self, recorder: Recorder, nodes: Sequence[Node], kernels: Sequence[Kernel]) -> None:
        """What a run wrote down."""
        events = recorder.events()
        with self._lock:
            kept = events[: max(_MOST_EVENTS - self._count, 0)]
            self._parts.append(Part(kept, nodes, kernels))
            self._count += len(kept)
            self._dropped += recorder.dropped + len(events) - len(kept)

    def write(self, prefix: str) -> str:
        """Writes a Chrome trace beside ``prefix`` and gives its path."""
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        path, number = f"{prefix}_{stamp}.json", 1
        while os.path.exists(path):
            path, number = f"{prefix}_{stamp}_{number}.json", number + 1
        with self._lock:
            self.written = True
            parts, dropped = list(self._parts), self._dropped
        write_trace(path, trace(parts, dropped, self.start))
        return path


def trace(parts: Sequence[Part], dropped: int, zero: int | None = None) -> list[dict[str, Any]]:
    """Events of the Trace Event Format, times in microseconds from ``zero``; ``dropped`` says how many are missing.
    Runs have the category Session and kernels Node, as in onnxruntime's profiles."""
    starts = (event.start for part in parts for event in part.events)
    zero = min(starts, default=0) if zero is None else zero
    process = os.getpid()
    shown: list[dict[str, Any]] = [
        {"name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": {"name": "vitrify"}}
    ]
    for thread in dict.fromkeys(event.thread for part in parts for event in part.events):
        name = "main thread" if thread == process else f"thread {thread}"  # Linux: the first thread has the process's
        shown.append({"name": "thread_name", "ph": "M", "pid": process, "tid": thread, "args": {"name": name}})
    if dropped:
        shown.append({"name": f"{dropped} calls not shown", "ph": "i", "s": "p", "pid": process, "tid": 0, "ts": 0})
    for part in parts:
        shown += [_shown(event, part, process, zero) for event in part.events]
    return shown


def _shown(event: Event, part: Part, process: int, zero: int) -> dict[str, Any]:
    base = {
        "ph": "X", "pid": process, "tid": event.thread, "ts": (event.start - zero) / 1e3,
        "dur": (event.end - event.start) / 1e3,
    }  # fmt: skip
    if event.kernel < 0:
        return {"cat": "Session", "name": "model_run", **base, "args": {}}
    kernel = part.kernels[event.kernel]
    sources = [part.nodes[n] for n in kernel.nodes]
    arguments = {
        "op_name": "+".join(node.op for node in sources), "nodes": [_node_name(node) for node in sources],
        "kernel": kernel.name, "flops": kernel.flops, "bytes": kernel.bytes, "provider": "CPUExecutionProvider",
    }  # fmt: skip
    name = ", ".join(node.name or node.op for node in sources) or kernel.name
    return {"cat": "Node", "name": f"{name}_kernel_time", **base, "args": arguments}


def write_trace(path: str | os.PathLike[str], events: Sequence[Mapping[str, Any]]) -> None:
    """Writes the events as JSON. InvalidArgumentError where the path cannot be written."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(list(events), file)
    except OSError as error:
        raise InvalidArgumentError(f"{os.fspath(path)} cannot be written: {error}") from None
