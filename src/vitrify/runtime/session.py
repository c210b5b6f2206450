"""Sessions: onnxruntime's calls over a compiled artifact."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from ..artifact.directory import Artifact, load_artifact
from ..artifact.dtypes import BY_NAME
from ..artifact.manifest import Port, Target
from ..errors import (
    DivisionError,
    IndexOutOfRangeError,
    InvalidArgumentError,
    OutOfMemoryError,
    ShapeError,
    VitrifyError,
)
from .cpu import choose, detect
from .feed import Array, native_dtype, normalise
from .native import make_call
from .options import SessionOptions
from .threads import default_threads

_MIB = 1 << 20

#: vt_status codes of abi.h: the class, what happened, what to do.
_STATUSES: dict[int, tuple[type[VitrifyError], str, str]] = {
    1: (IndexOutOfRangeError, "index out of range", "check the values of the index input"),
    2: (ShapeError, "the shapes contradict the model", "check the inputs' dims against get_inputs()"),
    3: (ShapeError, "shape arithmetic overflows 64 bits", "use smaller dims"),
    4: (OutOfMemoryError, "memory was refused", "free memory, or use smaller dims"),
    5: (DivisionError, "integer division by zero", "check the values of the divisor"),
}


class NodeArg(NamedTuple):
    """An input or output. ``shape`` has a number, a dim's name, or None for a dim only known after
    the run or given by an expression. ``type`` is like ``tensor(float)``."""

    name: str
    shape: list[int | str | None]
    type: str


class ModelMetadata(NamedTuple):
    """What the model says about itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    version: int
    custom_metadata_map: dict[str, str]


def _node_arg(port: Port) -> NodeArg:
    shape = [dim if isinstance(dim, int) or dim.isidentifier() else None for dim in port.dims]
    return NodeArg(port.name, shape, BY_NAME[port.dtype].tensor_type)


class Session:
    """A compiled model, ready to run. Any number of threads may call :meth:`run` at once.

    ``artifact`` is an :class:`Artifact` or the path of one. The target that suits this CPU best is
    taken; its payload and weights are checked against their digests, then mapped. Raises
    ArtifactError for a damaged artifact, PlatformError when no target fits, OutOfMemoryError when the
    stated peak is already over the memory limit.
    """

    def __init__(
        self, artifact: Artifact | str | os.PathLike[str], options: SessionOptions | None = None
    ) -> None:
        if options is not None and not isinstance(options, SessionOptions):
            raise InvalidArgumentError("options", expected="SessionOptions", actual=type(options).__name__)
        self._options = options or SessionOptions()
        self.artifact = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
        manifest = self.artifact.manifest
        self.target: Target = choose(manifest.targets, detect())
        self.threads = self._options.intra_op_num_threads or default_threads()
        limit = self._options.memory_limit_bytes
        stated = self.target.peak_bytes
        if limit and isinstance(stated, int) and stated > limit:
            self._refuse_memory(stated)
        self._inputs, self._outputs = manifest.inputs, manifest.outputs
        self._dtypes = [native_dtype(BY_NAME[port.dtype]) for port in self._inputs]
        self._positions = {port.name: index for index, port in enumerate(self._outputs)}
        weights = self.target.weights
        self._call = make_call(
            self.artifact.map(self.target.payload),
            None if weights is None else self.artifact.map(weights),
            self._inputs,
            self._outputs,
            (self._dtypes, [native_dtype(BY_NAME[port.dtype]) for port in self._outputs]),
            threads=self.threads,
            memory_limit=limit,
        )

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: None = None,
    ) -> list[Array]:
        """One inference: the named outputs, or all of them for None, as new arrays.

        Arrays that are contiguous, aligned and of the exact dtype are read where they are; others are
        copied first, and scalars and lists converted when their values fit. Types that NumPy lacks are
        ml_dtypes' where that is installed, else their raw bits. Raises InvalidArgumentError (everything
        wrong with names, dtypes, ranks and dims at once), ShapeError, IndexOutOfRangeError,
        DivisionError, OutOfMemoryError.
        """
        result = self._call(input_feed)
        if output_names is None and run_options is None and result.__class__ is list:
            return result
        if isinstance(result, list) and isinstance(output_names, list) and run_options is None:
            try:
                return [result[self._positions[name]] for name in output_names]
            except (KeyError, TypeError):
                pass  # _select says what is wrong
        return self._run_general(output_names, input_feed, run_options, result)

    def _run_general(
        self, output_names: Sequence[str] | None, feed: object, run_options: object, result: object
    ) -> list[Array]:
        if run_options is not None:
            raise InvalidArgumentError("run_options", expected="None", actual=type(run_options).__name__)
        wanted = self._select(output_names)
        if result is None:
            result = self._call(normalise(self._inputs, self._dtypes, feed))
            if result is None:
                raise ShapeError(
                    "the inputs contradict the compiled model", hint="the manifest and the payload disagree"
                )
        if isinstance(result, int):
            self._fail(result)
        assert isinstance(result, list)
        return [result[index] for index in wanted]

    def _select(self, names: Sequence[str] | None) -> list[int]:
        if names is None:
            return list(range(len(self._outputs)))
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise InvalidArgumentError(
                "output_names", expected="a list of names, or None", actual=repr(names)
            )
        known = list(self._positions)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InvalidArgumentError(
                "output_names", expected=f"names among {', '.join(known)}",
                actual=", ".join(map(repr, unknown)), hint="get_outputs() lists the outputs",
            )  # fmt: skip
        return [self._positions[name] for name in names]

    def _fail(self, status: int) -> NoReturn:
        if status < 0:
            self._refuse_memory(-status)
        kind, message, hint = _STATUSES.get(status >> 32, (VitrifyError, f"status {status >> 32}", None))
        nodes, index = self.artifact.manifest.nodes, status & 0xFFFFFFFF
        # A failure outside any node (an allocation) also carries index 0, so memory names none.
        known = index < len(nodes) and kind is not OutOfMemoryError
        node = nodes[index] if known else None
        where = f"node {node.name!r} ({node.op}): " if node and node.name else f"{node.op}: " if node else ""
        raise kind(f"{where}{message}", hint=hint)

    def _refuse_memory(self, need: int) -> NoReturn:
        raise OutOfMemoryError(
            "the run takes more memory than memory_limit_mb allows",
            expected=f"at most {self._options.memory_limit_bytes / _MIB:.6g} MB",
            actual=f"{need / _MIB:.6g} MB ({need} bytes)",
            hint="raise the limit, use smaller dims, or fewer threads",
        )

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the model's order."""
        return [_node_arg(port) for port in self._inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the model's order."""
        return [_node_arg(port) for port in self._outputs]

    def get_modelmeta(self) -> ModelMetadata:
        """The model's description of itself."""
        meta = self.artifact.manifest.meta
        return ModelMetadata(**{**meta._asdict(), "custom_metadata_map": dict(meta.custom_metadata_map)})

    def get_providers(self) -> list[str]:
        """Always ``["CPUExecutionProvider"]``."""
        return ["CPUExecutionProvider"]

    def get_session_options(self) -> SessionOptions:
        """The options the session was made with."""
        return self._options

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.artifact.path!r}, target={self.target.target!r}, threads={self.threads})"
