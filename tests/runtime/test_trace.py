"""Traces of runs, against the Trace Event Format: fields, microseconds, nesting, names of threads.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import vitrify
from tests.test_serving_surface import X, layers
from vitrify.artifact.manifest import Kernel, Node
from vitrify.errors import InvalidArgumentError
from vitrify.runtime.profile import Event, Part, trace, write_trace

Events = Sequence[dict[str, Any]]
_FIELDS = {
    "X": {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"},
    "M": {"name", "ph", "pid", "tid", "args"},
    "i": {"name", "ph", "s", "ts", "pid", "tid"},
}
_NANOSECOND = 1e-3


def check(events: Events) -> None:
    """Raises AssertionError for an event that the format does not have, for parts of two events of a thread that
    overlap without one inside the other, and for threads without a name."""
    named: dict[str, set[int]] = {"process_name": set(), "thread_name": set()}
    spans: dict[int, list[tuple[float, float]]] = {}
    for event in events:
        assert event.keys() == _FIELDS[event["ph"]], event
        assert isinstance(event["name"], str) and event["name"]
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "M":
            assert set(event["args"]) == {"name"} and isinstance(event["args"]["name"], str)
            assert event["tid"] not in named[event["name"]], "named twice"
            named[event["name"]].add(event["tid"])
        elif event["ph"] == "i":
            assert event["s"] in ("g", "p", "t") and event["ts"] >= 0
        else:
            assert event["ts"] >= 0 and event["dur"] >= 0 and isinstance(event["args"], dict)
            spans.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    assert {event["pid"] for event in events} == {os.getpid()}
    assert named["process_name"] == {0} and named["thread_name"] == spans.keys()
    for found in spans.values():
        ends: list[float] = []
        for start, end in sorted(found, key=lambda span: (span[0], -span[1])):
            while ends and ends[-1] <= start + _NANOSECOND / 2:
                ends.pop()
            assert not ends or end <= ends[-1] + _NANOSECOND / 2, "spans of a thread cross"
            ends.append(end)


def test_a_session_of_several_threads(tmp_path: Path) -> None:
    options = vitrify.SessionOptions(enable_profiling=True, profile_file_prefix=str(tmp_path / "trace"))
    session, feed = vitrify.InferenceSession(layers(), options), {"x": X}
    before = time.perf_counter()
    workers = [threading.Thread(target=session.run, args=(None, feed)) for _ in range(3)]
    for worker in workers:
        worker.start()
    session.run(None, feed)
    for worker in workers:
        worker.join()
    took = (time.perf_counter() - before) * 1e6
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    check(events)
    runs = [event for event in events if event.get("cat") == "Session"]
    assert len(runs) == 4 and all(0 < run["dur"] <= took for run in runs)  # microseconds, not nanoseconds
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert "main thread" in names and len(names) == len({run["tid"] for run in runs})
    nodes = [event for event in events if event.get("cat") == "Node"]
    assert nodes and all(event["args"]["nodes"] and event["args"]["op_name"] for event in nodes)


def test_units_and_calls_not_shown() -> None:
    kernel = Kernel("k", (0,), 6, 12)
    timed = [Event(-1, 1_000_000, 1_005_500, 7), Event(0, 1_001_250, 1_002_000, 7)]
    events = trace([Part(timed, [Node("n", "Add")], [kernel])], 3)
    check(events)
    assert [e["name"] for e in events if e["ph"] == "i"] == ["3 calls not shown"]
    whole, part = (e for e in events if e["ph"] == "X")
    assert (whole["ts"], whole["dur"]) == (0, 5.5) and (part["ts"], part["dur"]) == (1.25, 0.75)
    assert part["args"]["flops"] == 6 and part["name"] == "n_kernel_time"


def test_broken_traces_are_found() -> None:
    base = {"cat": "Node", "ph": "X", "pid": os.getpid(), "tid": 1, "args": {}}
    meta = [{"name": name, "ph": "M", "pid": os.getpid(), "tid": tid, "args": {"name": "x"}}
            for name, tid in (("process_name", 0), ("thread_name", 1))]  # fmt: skip
    good = [*meta, {"name": "a", "ts": 0.0, "dur": 5.0, **base}, {"name": "b", "ts": 5.0, "dur": 5.0, **base}]
    check(good)
    for broken in (
        [*good, {"name": "c", "ts": 4.0, "dur": 2.0, **base}],
        [*good, {"name": "c", "ts": -1.0, "dur": 1.0, **base}],
        good[:1] + good[2:],
        [*good, {"name": "c", "ts": 1.0, **base}],
    ):
        with pytest.raises(AssertionError):
            check(broken)


def test_names_that_json_escapes(tmp_path: Path) -> None:
    node = Node('a"b\\\n\u2028ü', "Add")
    write_trace(tmp_path / "t.json", trace([Part([Event(0, 0, 1, 1)], [node], [Kernel("k", (0,), 1, 1)])], 0))
    (event,) = (e for e in json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) if e["ph"] == "X")
    assert event["name"].startswith(node.name)
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        write_trace(tmp_path, [])


def test_sessions_that_run_for_another(tmp_path: Path) -> None:
    """Shapes follow the values of an input: each has a compiled form of its own, and all are in one trace."""
    info = helper.make_tensor_value_info
    inputs = [info("x", TensorProto.FLOAT, ["N", 16]), info("axes", TensorProto.INT64, [1])]
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], name="sum", keepdims=0)
    graph = helper.make_graph([node], "g", inputs, [info("y", TensorProto.FLOAT, ["M"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = vitrify.SessionOptions(enable_profiling=True, profile_file_prefix=str(tmp_path / "trace"))
    session = vitrify.InferenceSession(model, options)
    assert session.get_profiling_start_time_ns() > 0
    for axis in (0, 1, 0):
        session.run(None, {"x": X, "axes": np.array([axis])})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    check(events)
    assert sum(event.get("cat") == "Session" for event in events) == 3
    kernels = {e["args"]["kernel"] for e in events if e.get("cat") == "Node" and "sum" in e["name"]}
    assert len(kernels) >= 2
    session.run(None, {"x": X, "axes": np.array([1])})
    assert session.end_profiling() == "" and len(list(tmp_path.iterdir())) == 1
