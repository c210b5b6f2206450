"""What a process asks about the package, under onnxruntime's names."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BindingError, InvalidArgumentError
from .options import integer, verbosity

#: The one execution provider there is.
PROVIDER = "CPUExecutionProvider"


def check_providers(providers: Any, options: Any) -> None:
    """Raises InvalidArgumentError for a provider other than :data:`PROVIDER`, and for options."""
    if providers is None:
        return
    if isinstance(providers, str) or not isinstance(providers, Sequence):
        raise InvalidArgumentError("providers", expected=f"a list such as [{PROVIDER!r}]", actual=repr(providers))
    given = [p if isinstance(p, tuple) and len(p) == 2 else (p, {}) for p in providers]
    if options is not None:
        if not isinstance(options, Sequence) or len(options) != len(given):
            raise InvalidArgumentError(
                "provider_options", expected=f"options for each of {len(given)} providers", actual=repr(options)
            )
        given += [(name, more) for (name, _), more in zip(given, options, strict=True)]
    for name, own in given:
        if name != PROVIDER:
            raise InvalidArgumentError(
                "unknown provider", expected=PROVIDER, actual=repr(name), hint="leave providers out"
            )
        if not isinstance(own, Mapping) or own:
            raise InvalidArgumentError(
                f"unknown option of {PROVIDER}", expected="no options",
                actual=", ".join(map(str, own)) if isinstance(own, Mapping) else repr(own),
            )  # fmt: skip


def get_available_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [PROVIDER]


def get_all_providers() -> list[str]:
    """``["CPUExecutionProvider"]``."""
    return [PROVIDER]


def get_ep_devices() -> list[Any]:
    """No devices are offered apart from the CPU."""
    return []


def get_device() -> str:
    """``"CPU"``."""
    return "CPU"


def get_version_string() -> str:
    """The package's version."""
    return str(sys.modules["vitrify"].__version__)  # imported by now; what runs artifacts imports nothing above it


def get_build_info() -> str:
    """The package's version and what it runs on."""
    from .cpu import detect

    return f"Vitrify {get_version_string()}, {detect().architecture}"


def has_collective_ops() -> bool:
    """False."""
    return False


def set_default_logger_severity(level: int) -> None:
    """Checks the level (0 to 4); nothing is logged."""
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= 4:
        raise BindingError("severity", expected="0 (verbose) to 4 (fatal)", actual=repr(level))


def set_default_logger_verbosity(level: int) -> None:
    """Checks the level; nothing is logged."""
    verbosity("verbosity", level)


def set_seed(seed: int) -> None:
    """Checks the seed. It has no effect: random ops take theirs from the model, so that runs can be repeated."""
    _seed("seed", seed)


def set_global_thread_pool_sizes(intra_op_num_threads: int = 0, inter_op_num_threads: int = 0) -> None:
    """Checks the sizes. They have no effect: the one pool grows to what ``SessionOptions`` ask for."""
    _size("intra_op_num_threads", intra_op_num_threads)
    _size("inter_op_num_threads", inter_op_num_threads)


def disable_telemetry_events() -> None:
    """Nothing: there is no telemetry."""


def enable_telemetry_events() -> None:
    """Nothing: there is no telemetry."""


_seed = integer(-(1 << 63), (1 << 63) - 1, "a 64-bit integer")
_size = integer(0, 1024, "an integer from 0 to 1024")
