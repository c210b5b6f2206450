"""Options of a session, under onnxruntime's names."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from ..errors import InvalidArgumentError


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


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1024:
        raise InvalidArgumentError(
            f"option {name}", expected="an integer from 0 (automatic) to 1024", actual=repr(value)
        )
    return value


def _severity(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 4:
        raise InvalidArgumentError(f"option {name}", expected="0 (verbose) to 4 (fatal)", actual=repr(value))
    return value


def _megabytes(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1 << 40:
        raise InvalidArgumentError(
            f"option {name}", expected="megabytes above 0, or None", actual=repr(value)
        )
    return value


def _member(kind: type[IntEnum]) -> Any:
    def check(name: str, value: Any) -> IntEnum:
        if not isinstance(value, kind):
            raise InvalidArgumentError(
                f"option {name}",
                expected=f"one of {', '.join(map(str, kind.__members__))}",
                actual=repr(value),
            )
        return value

    return check


_CHECKS = {
    "intra_op_num_threads": _count,
    "inter_op_num_threads": _count,
    "execution_mode": _member(ExecutionMode),
    "graph_optimization_level": _member(GraphOptimizationLevel),
    "log_severity_level": _severity,
    "memory_limit_mb": _megabytes,
}


class SessionOptions:
    """Options of a session. Setting anything else, or a value out of range, raises InvalidArgumentError.

    - ``intra_op_num_threads``: threads of one run; 0 means one per physical core that affinity and
      quota leave to this process.
    - ``inter_op_num_threads``, ``execution_mode``: accepted for compatibility; one operator runs at a time.
    - ``graph_optimization_level``: for models compiled by the session; an artifact is compiled already.
    - ``log_severity_level``: 0 (verbose) to 4 (fatal).
    - ``memory_limit_mb``: a run whose weights, arena, scratch and outputs together take more than this
      many times 2**20 bytes is refused before it starts; None for no limit.
    """

    intra_op_num_threads: int
    inter_op_num_threads: int
    execution_mode: ExecutionMode
    graph_optimization_level: GraphOptimizationLevel
    log_severity_level: int
    memory_limit_mb: float | None

    def __init__(self, **options: Any) -> None:
        self.intra_op_num_threads = 0
        self.inter_op_num_threads = 0
        self.execution_mode = ExecutionMode.ORT_SEQUENTIAL
        self.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_ALL
        self.log_severity_level = 2
        self.memory_limit_mb = None
        for name, value in options.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        check = _CHECKS.get(name)
        if check is None:
            raise InvalidArgumentError(f"unknown option {name!r}", expected=f"one of {', '.join(_CHECKS)}")
        object.__setattr__(self, name, check(name, value))

    @property
    def memory_limit_bytes(self) -> int:
        """``memory_limit_mb`` in bytes; 0 for no limit."""
        return 0 if self.memory_limit_mb is None else max(1, int(self.memory_limit_mb * (1 << 20)))
