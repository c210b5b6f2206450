"""Sessions: onnxruntime's calls over a compiled artifact."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..artifact.dtypes import BY_NAME
from ..artifact.loading import Artifact, check_abi, load_artifact
from ..artifact.manifest import Edge, Port, Target
from ..artifact.record import Record
from ..errors import (
    ArgumentTypeError,
    CustomOpError,
    DivisionError,
    IndexOutOfRangeError,
    InvalidArgumentError,
    OutOfMemoryError,
    RunLimitError,
    ShapeError,
    TerminatedError,
    VitrifyError,
)
from .cpu import choose, detect
from .environment import PROVIDER, check_providers
from .feed import Array, native_dtype, normalise
from .native import ABI_DIGEST, Limits, Memory, NativeCall, NativeSession, Result
from .options import SessionOptions
from .threads import default_threads

if TYPE_CHECKING:
    from .binding import IOBinding
    from .ort_value import OrtValue
    from .profile import Profile
    from .run_options import RunOptions
    from .watched import WatchedRun

_MIB = 1 << 20
_RAISED = 6  # the status of a run that an op in Python ended
_TIME = 14  # the status of a run that took too long

#: vt_status codes of abi.h: the class, what happened, what to do.
_STATUSES: dict[int, tuple[type[VitrifyError], str, str | None]] = {
    1: (IndexOutOfRangeError, "index out of range", "check the values of the index input"),
    2: (ShapeError, "the shapes contradict the model", "check the inputs' dims against get_inputs()"),
    3: (ShapeError, "shape arithmetic overflows 64 bits", "use smaller dims"),
    4: (OutOfMemoryError, "memory was refused", "free memory, or use smaller dims"),
    5: (DivisionError, "integer division by zero", "check the values of the divisor"),
    7: (CustomOpError, "the C source of the custom op reported the failure", None),
    11: (
        ShapeError, "a size that follows from the values fed is negative, or larger than any memory",
        "check what sizes come from: scales (finite numbers above 0), sizes, limits, repeats, pads, depths",
    ),
    13: (RunLimitError, "the run's loops reached loop_trip_limit", None),
    15: (TerminatedError, "the run was ended by RunOptions.terminate", None),
}

#: What a status means at an op of its own: what happened, what was expected, what to do.
_AT_OPS: dict[tuple[int, str], tuple[str, str, str]] = {
    (1, "OneHotEncoder"): (
        "a value that is no category, and zeros is 0", "one of the node's cats_int64s",
        "feed known categories, or set zeros to 1: then unknown ones give a row of zeros",
    ),
    (1, "RoiAlign"): (
        "index out of range", "batch indices from 0 to below the number of images", "check the input batch_indices"
    ),
    (1, "MaxRoiPool"): (
        "index out of range", "batch indices from 0 to below the number of images", "check column 0 of the regions"
    ),
    (1, "ArrayFeatureExtractor"): (
        "index out of range", "columns from 0 to below the number of them", "check the second input"
    ),
}  # fmt: skip


class NodeArg(Record):
    """An input or output. ``shape`` has a number, a dim's name, or None for a dim only known after
    the run or given by an expression. ``type`` is like ``tensor(float)``."""

    name: str
    shape: list[int | str | None]
    type: str


class ModelMetadata(Record):
    """What the model says about itself."""

    producer_name: str
    graph_name: str
    domain: str
    description: str
    version: int
    custom_metadata_map: dict[str, str]
    graph_description: str = ""


def _node_arg(port: Port | Edge) -> NodeArg:
    kind = port.type if isinstance(port, Edge) else BY_NAME[port.dtype].tensor_type
    dims = port.dims if kind.startswith("tensor(") else None  # those of a sequence are its elements'
    shape = [dim if isinstance(dim, int) or dim.isidentifier() else None for dim in dims or ()]
    return NodeArg(port.name, shape, kind)


class Session:
    """A compiled model, ready to run. Any number of threads may call :meth:`run` at once.

    ``artifact`` is an :class:`Artifact` or the path of one. The target that suits this CPU best is taken; its
    payload is checked against its digest, then mapped, and its weights are when the first run needs them. Raises
    ArtifactError for an artifact that is damaged or not trusted, PlatformError when no target fits, OutOfMemoryError
    when the stated peak is already over the memory limit, MissingCustomOpError where the artifact needs custom ops
    that are not registered, ProbeError where its probes do not give what they should.
    """

    def __init__(
        self, artifact: Artifact | str | os.PathLike[str], options: SessionOptions | None = None
    ) -> None:
        if options is not None and not isinstance(options, SessionOptions):
            raise InvalidArgumentError("options", expected="SessionOptions", actual=type(options).__name__)
        self._options = options or SessionOptions()
        if not isinstance(artifact, Artifact):
            trust, digest = self._options.trust_directory, self._options.require_digest
            artifact = load_artifact(artifact, trust=trust, require_digest=digest)
        self.artifact = artifact
        manifest = artifact.manifest
        check_abi(manifest, ABI_DIGEST, artifact.path)
        self.target: Target = choose(manifest.targets, detect())
        self.threads = self._options.intra_op_num_threads or default_threads()
        limit = self._options.memory_limit_bytes
        stated = self.target.peak_bytes
        if limit and isinstance(stated, int) and stated > limit:
            self._refuse_memory(stated)
        self._inputs, self._outputs = manifest.inputs, manifest.outputs
        self._dtypes = [native_dtype(BY_NAME[port.dtype]) for port in self._inputs]
        self._output_dtypes = [native_dtype(BY_NAME[port.dtype]) for port in self._outputs]
        self._positions = {port.name: index for index, port in enumerate(self._outputs)}
        op_call = None
        if manifest.custom_calls:
            from .custom_calls import CustomCalls

            op_call = CustomCalls(manifest.custom_calls) or None
        self._native = NativeSession(
            self.artifact.payload(self.target),
            self.artifact.weights(self.target),
            self._inputs,
            self._outputs,
            (self._dtypes, self._output_dtypes),
            threads=self.threads,
            memory=Memory(limit, self._options.enable_cpu_mem_arena, self._options.shares_memory),
            limits=self._limits(None),
            op_call=op_call,
        )
        self._ready: NativeCall = self._native.call
        self._call: NativeCall = self._first_call
        self._host = manifest.host
        if self._host is not None:
            from .host.edges import Edges  # few models need it

            self._ready = Edges(self._host, self._inputs, self._dtypes, len(self._outputs), self._native.call)
            self._positions = {edge.name: index for index, edge in enumerate(self._host.outputs)}

        self._history = None
        if self._options.enable_profiling:
            from .profile import History

            self._history = History()
        if manifest.validation:
            from .probes import check_probes

            check_probes(self, self._dtypes)

    def run_plan(self, feed: Mapping[str, Array]) -> list[Array]:
        """The plan's own outputs for its own inputs, arrays in native form. Raises as :meth:`run` does."""
        self._native.check()
        result = self._native.call(feed)
        if isinstance(result, int):
            self._fail(result)
        if result is None:
            raise InvalidArgumentError("feed", expected="arrays in native form", actual="others")
        return result

    def _first_call(self, feed: object) -> Result:
        """Weights are compared with their digests before they are first read."""
        self._native.check()
        self._call = self._ready
        return self._ready(feed)

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: RunOptions | None = None,
    ) -> list[Array]:
        """One inference: the named outputs, or all of them where none is named, as new arrays.

        Arrays that are contiguous, aligned and of the exact dtype are read where they are; others are
        copied first, and scalars and lists converted when their values fit. Types that NumPy lacks are
        ml_dtypes' where that is installed, else their raw bits. Raises InvalidArgumentError (everything
        wrong with names, dtypes, ranks and dims at once), ShapeError, IndexOutOfRangeError,
        DivisionError, OutOfMemoryError, RunLimitError where a limit of the options is reached, TerminatedError
        where ``run_options.terminate`` is set, and what a custom op in Python raises. During a loop, signals are
        handled: Ctrl-C ends the run.
        """
        if run_options is not None or self._history is not None:
            return self.run_into(output_names, input_feed, {}, run_options)
        result = self._call(input_feed)
        if output_names is None and result.__class__ is list:
            return result
        if isinstance(result, list) and isinstance(output_names, list) and output_names:
            try:
                return [result[self._positions[name]] for name in output_names]
            except (KeyError, TypeError):
                pass  # _select says what is wrong
        return self._run_general(output_names, input_feed, result)

    def _run_general(self, output_names: Sequence[str] | None, feed: object, result: object) -> list[Array]:
        wanted = self._select(output_names)
        if result is None and (other := self._taking(feed)) is not None:
            return other[0].run(output_names, other[1])
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

    def _taking(self, feed: object) -> tuple[Session, Mapping[str, Any]] | None:
        """Another session of the same model that such a feed is for, and what to feed it; None for this one."""
        return None

    def run_into(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        arrays: Mapping[str, Array],
        run_options: RunOptions | None = None,
    ) -> list[Array]:
        """As :meth:`run`; outputs are written into ``arrays`` where these name them. They have to be contiguous,
        aligned, writable, of the output's exact dtype and apart from each other; BindingError for another shape."""
        if (other := self._taking(input_feed)) is not None:
            return other[0].run_into(output_names, other[1], arrays, run_options)
        if self._history is not None and self._history.written:
            self._history = None  # another session's, which this one runs for
        if not arrays and run_options is None and self._history is None:
            return self.run(output_names, input_feed)
        from .watched import WatchedRun

        recorder = None
        if self._history is not None:
            from .profile import Recorder

            recorder = Recorder(len(self.target.kernels))
        wanted = self._select(output_names)
        places = self._places(arrays)
        dtypes = (self._dtypes, self._output_dtypes)
        limits = self._limits(run_options)
        run = WatchedRun(self._native, self._inputs, self._outputs, dtypes, places, run_options, recorder, limits)
        result = self._watched(run, input_feed, run_options)
        if self._history is not None and recorder is not None:
            self._history.add(recorder, self.artifact.manifest.nodes, self.target.kernels)
        return [result[index] for index in wanted]

    def _places(self, arrays: object) -> dict[int, Array]:
        """Memory of the caller by the outputs' numbers."""
        if not isinstance(arrays, Mapping):
            raise ArgumentTypeError("arrays", expected="arrays by the outputs' names", actual=type(arrays).__name__)
        if arrays:
            self._select(list(arrays))
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ArgumentTypeError(f"arrays[{name!r}]", expected="an array", actual=type(array).__name__)
        return {self._positions[name]: array for name, array in arrays.items()}

    def _limits(self, options: object) -> Limits:
        """Those of a run with such RunOptions."""
        time = getattr(options, "time_limit_seconds", None) or self._options.time_limit_seconds or 0
        trips = getattr(options, "loop_trip_limit", None) or self._options.loop_trip_limit or 0
        return Limits(math.ceil(time * 1e9), trips)

    def _watched(self, run: WatchedRun, feed: object, options: RunOptions | None = None) -> list[Array]:
        call: Callable[[object], list[Any] | int | None] = run
        if self._host is not None:
            from .host.edges import Edges

            call = Edges(self._host, self._inputs, self._dtypes, len(self._outputs), run)
        result = call(feed)
        if isinstance(result, int):
            self._fail(result, options)
        assert isinstance(result, list)
        return run.placed(result)

    def run_with_profiling(self, feeds: Mapping[str, Any]) -> Profile:
        """A run that is timed kernel by kernel; the profile has its outputs, too. What the machine can do at most
        is measured at the first one (about 0.1 s)."""
        if (other := self._taking(feeds)) is not None:
            return other[0].run_with_profiling(other[1])
        from .machine import limits
        from .profile import Profile, Recorder
        from .watched import WatchedRun

        machine = limits(self._native, self.threads, self.target.target)
        recorder = Recorder(len(self.target.kernels))
        dtypes = (self._dtypes, self._output_dtypes)
        run = WatchedRun(self._native, self._inputs, self._outputs, dtypes, {}, None, recorder, self._limits(None))
        outputs = self._watched(run, feeds)
        return Profile(outputs, recorder, self.artifact.manifest, self.target.kernels, run.dims, machine)

    def end_profiling(self) -> str:
        """Writes the times of all runs as a Chrome trace (Perfetto opens it) and gives the file's path; an empty
        string unless ``enable_profiling`` was set. Later runs are not timed."""
        history, self._history = self._history, None
        if history is None:
            return ""
        return history.write(self._options.profile_file_prefix)

    def get_profiling_start_time_ns(self) -> int:
        """The monotonic clock when profiling began; 0 without it."""
        return 0 if self._history is None else self._history.start

    def run_async(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        callback: Callable[[list[Any], Any, str], object],
        user_data: Any,
        run_options: RunOptions | None = None,
    ) -> None:
        """A run on another thread, which then calls ``callback(results, user_data, error)``: ``error`` is empty, or
        says what was wrong and ``results`` are empty. Missing inputs are refused at once."""
        from .background import submit

        if not callable(callback):
            raise ArgumentTypeError("callback", expected="a function of three", actual=type(callback).__name__)
        known = [arg.name for arg in self.get_inputs() if not arg.type.startswith("optional(")]
        if not isinstance(input_feed, Mapping) or (missing := [n for n in known if n not in input_feed]):
            listed = ", ".join(map(repr, missing)) if isinstance(input_feed, Mapping) else repr(input_feed)
            needed = ", ".join(known)
            raise InvalidArgumentError("input_feed", expected=f"values for {needed}", actual=f"none for {listed}")
        submit(lambda: self.run(output_names, input_feed, run_options), callback, user_data)

    def run_with_ort_values(
        self,
        output_names: Sequence[str] | None,
        input_dict_ort_values: Mapping[str, OrtValue],
        run_options: RunOptions | None = None,
    ) -> list[OrtValue]:
        """As :meth:`run`, with OrtValues in and out."""
        from .ort_value import OrtValue, values_of

        feed = values_of(input_dict_ort_values)
        results = self.run(output_names, feed, run_options)
        types = [arg.type for arg in self.get_outputs()]
        return [OrtValue(r, types[k]) for r, k in zip(results, self._select(output_names), strict=True)]

    def io_binding(self) -> IOBinding:
        """A binding for :meth:`run_with_iobinding`."""
        from .binding import IOBinding

        return IOBinding(self)

    def run_with_iobinding(self, iobinding: IOBinding, run_options: RunOptions | None = None) -> None:
        """A run over what is bound; ``iobinding`` then has the outputs."""
        from .binding import IOBinding

        if not isinstance(iobinding, IOBinding):
            raise ArgumentTypeError("iobinding", expected="what io_binding() gave", actual=type(iobinding).__name__)
        iobinding.run(self, run_options)

    def run_batch(
        self,
        output_names: Sequence[str] | None,
        input_feeds: Sequence[Mapping[str, Any]],
        max_batch_size: int | None = None,
    ) -> list[list[Any]]:
        """The outputs of several requests. They are joined along axis 0, up to ``max_batch_size`` rows in a run,
        where axis 0 of every input and output is one named dim that is nowhere else, and their other dims are
        the same; else each runs by itself. An error names the request at fault."""
        from .batch import run_batch

        self._select(output_names)
        several = input_feeds if isinstance(input_feeds, Sequence) else ()
        whole = self._host is None and not any(self._taking(feed) for feed in several)
        return run_batch(
            lambda feed: self.run(output_names, feed), input_feeds, max_batch_size,
            self._inputs, self._outputs, self._dtypes, whole,
        )  # fmt: skip

    def _select(self, names: Sequence[str] | None) -> list[int]:
        if names is None or (isinstance(names, (list, tuple)) and not names):
            return list(range(len(self._positions)))
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

    def _fail(self, status: int, options: RunOptions | None = None) -> NoReturn:
        if status < 0:
            self._refuse_memory(-status)
        code, detail = status >> 32 & 0xFF, status >> 40
        if code == _TIME:
            self._refuse_time(status & 0xFFFFFFFF, options)
        kind, message, hint = _STATUSES.get(code, (VitrifyError, f"status {code}", None))
        nodes, index = self.artifact.manifest.nodes, status & 0xFFFFFFFF
        # A failure outside any node (an allocation) also carries index 0, so memory names none.
        known = index < len(nodes) and kind not in (OutOfMemoryError, TerminatedError)
        node = nodes[index] if known else None
        where = f"node {node.name!r} ({node.op}): " if node and node.name else f"{node.op}: " if node else ""
        if code == _RAISED:
            from .custom_calls import take_raised

            error = take_raised()
            if error is not None:
                error.add_note(f"raised by the custom op at {where.rstrip(': ')}")
                raise error
        if kind is CustomOpError:
            message = f"{message} {detail}"
        if kind is RunLimitError:
            limit = self._limits(options).trips
            raise kind(
                f"{where}{message}", expected=f"at most {limit} trips of all loops together",
                actual="more", hint="raise loop_trip_limit of RunOptions or SessionOptions, or see what ends the loop",
            )  # fmt: skip
        expected = None
        if node is not None and (code, node.op) in _AT_OPS:
            message, expected, hint = _AT_OPS[code, node.op]
        raise kind(f"{where}{message}", expected=expected, hint=hint)

    def _refuse_time(self, milliseconds: int, options: RunOptions | None) -> NoReturn:
        raise RunLimitError(
            "the run took longer than time_limit_seconds allows",
            expected=f"at most {self._limits(options).time / 1e9:.6g} s", actual=f"{milliseconds / 1e3:.6g} s so far",
            hint="raise time_limit_seconds of RunOptions or SessionOptions, or feed less",
        )  # fmt: skip

    def _refuse_memory(self, need: int) -> NoReturn:
        raise OutOfMemoryError(
            "the run takes more memory than memory_limit_mb allows",
            expected=f"at most {self._options.memory_limit_bytes / _MIB:.6g} MB",
            actual=f"{need / _MIB:.6g} MB ({need} bytes)",
            hint="raise the limit, use smaller dims, or fewer threads",
        )

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the model's order."""
        return [_node_arg(port) for port in (self._host or self.artifact.manifest).inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the model's order."""
        return [_node_arg(port) for port in (self._host or self.artifact.manifest).outputs]

    def get_modelmeta(self) -> ModelMetadata:
        """The model's description of itself."""
        meta = self.artifact.manifest.meta
        return ModelMetadata(**{**meta._asdict(), "custom_metadata_map": dict(meta.custom_metadata_map)})

    @property
    def plan_inputs(self) -> tuple[Port, ...]:
        """The inputs that the plan itself reads."""
        return self._inputs

    @property
    def plan_outputs(self) -> tuple[Port, ...]:
        """The outputs that the plan itself writes: all of them, or none where Python has the last word."""
        return self._outputs if self._host is None else ()

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Inputs with a default value: none, since those of an artifact are its constants."""
        return []

    def get_providers(self) -> list[str]:
        """Always ``["CPUExecutionProvider"]``."""
        return [PROVIDER]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        """Always ``{"CPUExecutionProvider": {}}``."""
        return {PROVIDER: {}}

    def set_providers(self, providers: Any = None, provider_options: Any = None) -> None:
        """Checks the providers, of which there is one. Raises InvalidArgumentError for others."""
        check_providers(providers, provider_options)

    def disable_fallback(self) -> None:
        """Nothing: there is no fallback."""

    def enable_fallback(self) -> None:
        """Nothing: there is nothing to fall back to."""

    def get_session_options(self) -> SessionOptions:
        """The options the session was made with."""
        return self._options

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.artifact.path!r}, target={self.target.target!r}, threads={self.threads})"
