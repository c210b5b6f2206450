"""Options of a session, under onnxruntime's names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, ClassVar

from ..errors import ArgumentTypeError, BindingError, InvalidArgumentError, UnknownNameError, UnsupportedError


class GraphOptimizationLevel(IntEnum):
    """How much the compiler may do."""

    ORT_DISABLE_ALL = 0
    ORT_ENABLE_BASIC = 1
    ORT_ENABLE_EXTENDED = 2
    ORT_ENABLE_LAYOUT = 3
    ORT_ENABLE_ALL = 99


class ExecutionMode(IntEnum):
    """Operators always run one after another, each on all threads; the mode changes no result."""

    ORT_SEQUENTIAL = 0
    ORT_PARALLEL = 1


class ExecutionOrder(IntEnum):
    """The order of operators is fixed when a model is compiled; this changes no result."""

    DEFAULT = 0
    PRIORITY_BASED = 1
    MEMORY_EFFICIENT = 2


Check = Callable[[str, Any], Any]

#: The entry of a configuration that lets sessions lend each other their memory.
SHARED_ARENAS = "session.use_env_allocators"


def _refuse(name: str, expected: str, value: object, *, type_: bool) -> InvalidArgumentError:
    kind = ArgumentTypeError if type_ else InvalidArgumentError
    return kind(f"option {name}", expected=expected, actual=repr(value))


def integer(low: int, high: int, expected: str) -> Check:
    def check(name: str, value: Any) -> int:
        wrong = isinstance(value, bool) or not isinstance(value, int)
        if wrong or not low <= value <= high:
            raise _refuse(name, expected, value, type_=wrong)
        return int(value)

    return check


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool) and value not in (0, 1):
        raise _refuse(name, "True or False", value, type_=True)
    return bool(value)


def text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _refuse(name, "a string", value, type_=True)
    return value


def _path(name: str, value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or isinstance(path := os.fspath(value), bytes):
        raise _refuse(name, "a path", value, type_=True)
    return path


def _directory(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not (path := _path(name, value)):
        raise _refuse(name, "a path, or None", value, type_=False)
    return path


def _digest(name: str, value: Any) -> str | None:
    if value is None:
        return None
    # an empty text is refused, too: it comes of a variable that was not set, and would let any artifact pass
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise _refuse(name, "64 lower-case hexadecimal digits, or None", value, type_=not isinstance(value, str))
    return value


def _megabytes(name: str, value: Any) -> float | None:
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, (int, float))
    if wrong or not 0 < value < 1 << 40:
        raise _refuse(name, "megabytes above 0, or None", value, type_=wrong)
    return float(value)


def seconds(name: str, value: Any) -> float | None:
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, (int, float))
    if wrong or not 0 < value < 1 << 32:
        raise _refuse(name, "seconds above 0, or None", value, type_=wrong)
    return float(value)


def trips(name: str, value: Any) -> int | None:
    return None if value is None else int(_trips(name, value))


def _member(kind: type[IntEnum]) -> Check:
    def check(name: str, value: Any) -> IntEnum:
        if not isinstance(value, kind):
            raise _refuse(name, f"one of {', '.join(map(str, kind.__members__))}", value, type_=True)
        return value

    return check


_trips = integer(1, (1 << 63) - 1, "a number of trips from 1, or None")
_threads = integer(0, 1024, "an integer from 0 (automatic) to 1024")
severity = integer(0, 4, "0 (verbose) to 4 (fatal)")
verbosity = integer(-(1 << 31), (1 << 31) - 1, "an integer")


class Options:
    """Attributes that are checked when they are set, and a configuration of strings."""

    _CHECKS: ClassVar[Mapping[str, Check]]
    _DEFAULTS: ClassVar[Mapping[str, Any]]

    def __init__(self, **options: Any) -> None:
        object.__setattr__(self, "_entries", {})
        for name, value in {**self._DEFAULTS, **options}.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        check = self._CHECKS.get(name)
        if check is None:
            raise UnknownNameError(f"unknown option {name!r}", expected=f"one of {', '.join(self._CHECKS)}")
        object.__setattr__(self, name, check(name, value))

    def _add_entry(self, key: str, value: str) -> None:
        entries: dict[str, str] = self.__dict__["_entries"]
        entries[text("configuration key", key)] = text("configuration value", value)

    def _get_entry(self, key: str) -> str:
        entries: dict[str, str] = self.__dict__["_entries"]
        if key not in entries:
            raise BindingError(
                f"no configuration entry {key!r}", expected=", ".join(map(repr, entries)) or "none was added"
            )
        return entries[key]


class SessionOptions(Options):
    """Options of a session. An unknown name, or a value out of range, raises InvalidArgumentError.

    - ``intra_op_num_threads``: threads of one run; 0 means one per physical core that affinity and
      quota leave to this process.
    - ``graph_optimization_level``: for models compiled by the session; an artifact is compiled already.
    - ``memory_limit_mb``: a run whose weights, arena, scratch and outputs together take more than this
      many times 2**20 bytes is refused before it starts; None for no limit.
    - ``time_limit_seconds``, ``loop_trip_limit``: a run that takes longer, or whose loops make more trips in all,
      ends with RunLimitError; looked at before each kernel and each trip. None for no limit; those of RunOptions
      go first.
    - ``enable_cpu_mem_arena``: what a run needed is kept for the next one; else it is given back.
    - ``share_memory``: sessions of the process lend each other what they keep. The configuration entry
      ``session.use_env_allocators`` = ``"1"`` says the same.
    - ``enable_mem_reuse``: values that are never needed at once share memory (of models compiled by the session).
    - ``enable_profiling``, ``profile_file_prefix``: runs are timed kernel by kernel, see ``end_profiling``.
    - ``optimized_model_filepath``: where the compiled artifact is written.
    - ``trust_directory``: the directory of the policy that decides about artifacts; None for
      ``$VITRIFY_TRUST_DIR``, or this user's own. ``require_digest``: the SHA-256 of the manifest of the only artifact
      that will do; None for any. Both are for sessions of artifacts; one that compiles a model refuses them.

    Accepted, and without effect: ``inter_op_num_threads``, ``execution_mode``, ``execution_order`` (one kernel
    runs at a time, on all threads), ``enable_mem_pattern`` (memory is planned in any case),
    ``use_deterministic_compute`` (results never depend on threads), ``use_per_session_threads`` (there is one
    pool), ``logid`` and the levels of logging (nothing is logged), other configuration entries.
    """

    intra_op_num_threads: int
    inter_op_num_threads: int
    execution_mode: ExecutionMode
    execution_order: ExecutionOrder
    graph_optimization_level: GraphOptimizationLevel
    enable_cpu_mem_arena: bool
    enable_mem_pattern: bool
    enable_mem_reuse: bool
    enable_profiling: bool
    profile_file_prefix: str
    optimized_model_filepath: str
    logid: str
    log_severity_level: int
    log_verbosity_level: int
    use_deterministic_compute: bool
    use_per_session_threads: bool
    memory_limit_mb: float | None
    time_limit_seconds: float | None
    loop_trip_limit: int | None
    share_memory: bool
    trust_directory: str | None
    require_digest: str | None

    _CHECKS: ClassVar[Mapping[str, Check]] = {
        "intra_op_num_threads": _threads,
        "inter_op_num_threads": _threads,
        "execution_mode": _member(ExecutionMode),
        "execution_order": _member(ExecutionOrder),
        "graph_optimization_level": _member(GraphOptimizationLevel),
        "enable_cpu_mem_arena": flag,
        "enable_mem_pattern": flag,
        "enable_mem_reuse": flag,
        "enable_profiling": flag,
        "profile_file_prefix": _path,
        "optimized_model_filepath": _path,
        "logid": text,
        "log_severity_level": severity,
        "log_verbosity_level": verbosity,
        "use_deterministic_compute": flag,
        "use_per_session_threads": flag,
        "memory_limit_mb": _megabytes,
        "time_limit_seconds": seconds,
        "loop_trip_limit": trips,
        "share_memory": flag,
        "trust_directory": _directory,
        "require_digest": _digest,
    }
    _DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "intra_op_num_threads": 0,
        "inter_op_num_threads": 0,
        "execution_mode": ExecutionMode.ORT_SEQUENTIAL,
        "execution_order": ExecutionOrder.DEFAULT,
        "graph_optimization_level": GraphOptimizationLevel.ORT_ENABLE_ALL,
        "enable_cpu_mem_arena": True,
        "enable_mem_pattern": True,
        "enable_mem_reuse": True,
        "enable_profiling": False,
        "profile_file_prefix": "vitrify_profile",
        "optimized_model_filepath": "",
        "logid": "",
        "log_severity_level": 2,
        "log_verbosity_level": 0,
        "use_deterministic_compute": False,
        "use_per_session_threads": True,
        "memory_limit_mb": None,
        "time_limit_seconds": None,
        "loop_trip_limit": None,
        "share_memory": False,
        "trust_directory": None,
        "require_digest": None,
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        own = self.__dict__
        own["_initializers"], own["_external"], own["_dims"], own["_denotations"] = {}, {}, {}, {}
        own["_cancelled"] = False

    @property
    def memory_limit_bytes(self) -> int:
        """``memory_limit_mb`` in bytes; 0 for no limit."""
        return 0 if self.memory_limit_mb is None else max(1, int(self.memory_limit_mb * (1 << 20)))

    @property
    def shares_memory(self) -> bool:
        """Whether ``share_memory``, or onnxruntime's configuration entry for it, is set."""
        return self.share_memory or self.__dict__["_entries"].get(SHARED_ARENAS) == "1"

    @property
    def load_cancelled(self) -> bool:
        """What :meth:`set_load_cancellation_flag` was given last."""
        return bool(self.__dict__["_cancelled"])

    @property
    def initializers(self) -> dict[str, Any]:
        """The values that :meth:`add_initializer` and :meth:`add_external_initializers` gave, by name."""
        own = self.__dict__
        return {**own["_initializers"], **own["_external"]}

    @property
    def external_initializers(self) -> frozenset[str]:
        """Names that :meth:`add_external_initializers` gave: the model must have them."""
        return frozenset(self.__dict__["_external"])

    @property
    def dim_overrides(self) -> dict[str, int]:
        """Sizes by the dims' names."""
        return dict(self.__dict__["_dims"])

    @property
    def denotation_overrides(self) -> dict[str, int]:
        """Sizes by the dims' denotations."""
        return dict(self.__dict__["_denotations"])

    def add_session_config_entry(self, key: str, value: str) -> None:
        """Sets an entry of the configuration; only ``session.use_env_allocators`` has an effect."""
        self._add_entry(key, value)

    def get_session_config_entry(self, key: str) -> str:
        """The entry's value. BindingError (a RuntimeError) where there is none."""
        return self._get_entry(key)

    def add_initializer(self, name: str, value: Any) -> None:
        """The model's initializer ``name`` gets this value (an OrtValue) when it is compiled. A name that the
        model does not have changes nothing. BindingError for a second value of one name."""
        self._add_value("_initializers", name, value)

    def add_external_initializers(self, names: Sequence[str], values: Sequence[Any]) -> None:
        """As :meth:`add_initializer`, for initializers that the model must have, such as those whose external
        file is not there."""
        if not (isinstance(names, Sequence) and isinstance(values, Sequence)):
            given = f"{type(names).__name__} and {type(values).__name__}"
            raise BindingError("initializers", expected="a list of names and one of OrtValues", actual=given)
        if len(names) != len(values):
            raise BindingError("initializers", expected=f"{len(names)} values", actual=len(values))
        for name, value in zip(names, values, strict=True):
            self._add_value("_external", name, value)

    def _add_value(self, kind: str, name: str, value: Any) -> None:
        from .ort_value import OrtValue  # which needs NumPy's dtypes

        if not isinstance(value, OrtValue) or not value.is_tensor():
            raise BindingError(f"initializer {name!r}", expected="an OrtValue of a tensor", actual=type(value).__name__)
        if name in self.initializers:
            raise BindingError(f"initializer {name!r} was given before", hint="one value for each name")
        self.__dict__[kind][text("initializer's name", name)] = value.numpy()

    def add_free_dimension_override_by_name(self, name: str, value: int) -> None:
        """The dim ``name`` has this size in the compiled model. A name that the model lacks changes nothing."""
        self.__dict__["_dims"][text("dim's name", name)] = _dim(name, value)

    def add_free_dimension_override_by_denotation(self, denotation: str, value: int) -> None:
        """Dims of inputs with this denotation, such as ``DATA_BATCH``, have this size in the compiled model."""
        self.__dict__["_denotations"][text("denotation", denotation)] = _dim(denotation, value)

    def register_custom_ops_library(self, path: str) -> None:
        """Refused: libraries of custom ops are written against onnxruntime's own interface, and
        :func:`vitrify.custom_op` takes their place. UnsupportedError."""
        raise UnsupportedError(
            [f"the library of custom ops {path!r}, made for onnxruntime's C++ interface"],
            hint="give the op as vitrify.custom_op(domain, name, infer=..., reference=..., c_source=...)",
        )

    def add_provider(self, name: str, options: Mapping[str, str]) -> None:
        """Checks the provider, of which there is one."""
        from .environment import check_providers

        check_providers([(name, options)], None)

    def has_providers(self) -> bool:
        """False: the one provider need not be added."""
        return False

    def set_load_cancellation_flag(self, cancelled: bool) -> None:
        """While it is set, sessions are refused (LoadCancelledError) before they compile or load anything."""
        self.__dict__["_cancelled"] = flag("load cancellation", cancelled)


_size = integer(0, (1 << 62) - 1, "a size")


def _dim(name: str, value: Any) -> int:
    return int(_size(f"size of dim {name!r}", value))
