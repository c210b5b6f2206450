"""Models whose shapes follow the elements of some inputs: axes, sizes, counts that a caller feeds.

A compiled form needs them as constants, so each set of values that is fed gets one, through the cache, and the
sessions of the latest are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vitrify.artifact.dtypes import BY_NAME
from vitrify.errors import InvalidArgumentError
from vitrify.runtime.session import ModelMetadata, NodeArg, Session

MOST_SESSIONS = 64
Array = np.ndarray[Any, Any]
Opened = Callable[[Mapping[str, Array]], Session]


class ByValue:
    """``open_session`` gives the session for values of the inputs ``names`` of ``model`` (a path, bytes, or a
    ``ModelProto``). Any number of threads may call :meth:`run`.
    """

    def __init__(self, model: Any, names: Sequence[str], open_session: Opened) -> None:
        from vitrify.frontends.onnx.arrays import dtype_of
        from vitrify.frontends.onnx.load import read_model

        proto = read_model(model)[0]
        held = {t.name for t in proto.graph.initializer}
        declared = [v for v in proto.graph.input if v.name not in held]
        self.names = tuple(names)
        self.inputs = [_node_arg(v) for v in declared]
        self.outputs = [_node_arg(v) for v in proto.graph.output]
        self.metadata = ModelMetadata(
            proto.producer_name, proto.graph.name, proto.domain, proto.doc_string, proto.model_version,
            {p.key: p.value for p in proto.metadata_props},
        )  # fmt: skip
        rows = {v.name: dtype_of(v.type.tensor_type.elem_type) for v in declared}
        self._dtypes = {name: row.numpy for name, row in rows.items() if row is not None}
        self._open = open_session
        self._sessions: OrderedDict[tuple[Any, ...], Session] = OrderedDict()
        self._lock = threading.Lock()

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """As :meth:`vitrify.runtime.session.Session.run`; new values compile first."""
        session, rest = self.session_for(input_feed)
        return session.run(output_names, rest, run_options)

    def session_for(self, input_feed: Mapping[str, Any]) -> tuple[Session, dict[str, Any]]:
        """The session for the values in a feed, and the rest of the feed, which it takes."""
        if not isinstance(input_feed, Mapping):
            raise InvalidArgumentError(
                "input_feed", expected="arrays by the inputs' names", actual=type(input_feed).__name__
            )
        if missing := [name for name in self.names if name not in input_feed]:
            raise InvalidArgumentError(
                f"missing inputs: {', '.join(map(repr, missing))}",
                expected=", ".join(i.name for i in self.inputs), actual=", ".join(map(str, input_feed)) or "none",
            )  # fmt: skip
        values = {name: self._array(name, input_feed[name]) for name in self.names}
        return self._session(values), {k: v for k, v in input_feed.items() if k not in values}

    def _array(self, name: str, value: Any) -> Array:
        if isinstance(value, (np.ndarray, np.generic)):
            return np.asarray(value)
        try:
            return np.asarray(value, self._dtypes.get(name))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgumentError(f"input {name!r}: {error}") from None

    def _session(self, values: Mapping[str, Array]) -> Session:
        key = tuple((a.dtype.str, a.shape, a.tobytes()) for a in values.values())
        with self._lock:
            if (found := self._sessions.get(key)) is not None:
                self._sessions.move_to_end(key)
                return found
        made = self._open(values)
        with self._lock:
            self._sessions[key] = made
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return made


def _node_arg(info: Any) -> NodeArg:
    """What the model declares of an input or output (an ``onnx.ValueInfoProto``)."""
    from vitrify.frontends.onnx.arrays import dtype_name, dtype_of

    declared = info.type.tensor_type
    row = dtype_of(declared.elem_type)
    kind = f"tensor({dtype_name(declared.elem_type)})" if row is None else BY_NAME[row.name].tensor_type
    return NodeArg(info.name, [d.dim_value or d.dim_param or None for d in declared.shape.dim], kind)
