"""Options of one run, under onnxruntime's names."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import c_int32
from typing import Any, ClassVar

from ..errors import UnsupportedError
from .options import Check, Options, flag, seconds, severity, text, trips, verbosity


class RunOptions(Options):
    """Options of one run. An unknown name, or a value out of range, raises InvalidArgumentError.

    - ``terminate``: a run with these options is refused, and one under way ends before its next kernel, with
      TerminatedError. Any thread may set it; it stays set.
    - ``time_limit_seconds``, ``loop_trip_limit``: as in SessionOptions, for this run; None leaves the session's.

    Accepted, and without effect: ``only_execute_path_to_fetches`` (a plan computes all outputs), ``logid`` and
    the levels of logging (nothing is logged), entries of the configuration.
    """

    terminate: bool
    time_limit_seconds: float | None
    loop_trip_limit: int | None
    only_execute_path_to_fetches: bool
    logid: str
    log_severity_level: int
    log_verbosity_level: int

    _CHECKS: ClassVar[Mapping[str, Check]] = {
        "terminate": flag,
        "time_limit_seconds": seconds,
        "loop_trip_limit": trips,
        "only_execute_path_to_fetches": flag,
        "logid": text,
        "log_severity_level": severity,
        "log_verbosity_level": verbosity,
    }
    _DEFAULTS: ClassVar[Mapping[str, Any]] = {
        "terminate": False,
        "time_limit_seconds": None,
        "loop_trip_limit": None,
        "only_execute_path_to_fetches": False,
        "logid": "",
        "log_severity_level": 2,
        "log_verbosity_level": 0,
    }

    def __init__(self, **options: Any) -> None:
        self.__dict__["stop"] = c_int32(0)  # what a run reads between two kernels
        super().__init__(**options)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "terminate":
            self.__dict__["stop"].value = int(self.terminate)

    def add_run_config_entry(self, key: str, value: str) -> None:
        """Sets an entry of the configuration, none of which has an effect."""
        self._add_entry(key, value)

    def get_run_config_entry(self, key: str) -> str:
        """The entry's value. BindingError (a RuntimeError) where there is none."""
        return self._get_entry(key)

    def add_active_adapter(self, adapter: Any) -> None:
        """Refused: there are no adapters. UnsupportedError."""
        raise UnsupportedError(["adapters of weights at run time"], hint="merge the adapter into the model")
