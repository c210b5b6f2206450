"""Runs that are timed, can be ended, or write their outputs where the caller says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import POINTER, cast, pointer
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifact.manifest import Port
from ..errors import ArgumentTypeError, BindingError, OutOfMemoryError, TerminatedError
from .feed import Array, normalise
from .native import Limits, NativeSession, Watch
from .run_options import RunOptions

if TYPE_CHECKING:
    from .profile import Recorder


class WatchedRun:
    """One run, called as the plan is: feed -> outputs, or the status of a failure.

    ``dtypes`` are those of the inputs' and the outputs' arrays. ``places`` has arrays for outputs by number.
    ``limits`` are the run's. ``dims`` are the sizes of the inputs' named dims afterwards.
    Raises InvalidArgumentError for a feed that does not fit, BindingError for a place that does not, and
    TerminatedError when ``options.terminate`` is set already.
    """

    def __init__(
        self,
        native: NativeSession,
        inputs: Sequence[Port],
        outputs: Sequence[Port],
        dtypes: tuple[Sequence[np.dtype[Any]], Sequence[np.dtype[Any]]],
        places: Mapping[int, Array],
        options: RunOptions | None,
        recorder: Recorder | None,
        limits: Limits,
    ) -> None:
        if options is not None and not isinstance(options, RunOptions):
            raise ArgumentTypeError("run_options", expected="RunOptions", actual=type(options).__name__)
        if options is not None and options.terminate:
            raise TerminatedError("the run was not begun: RunOptions.terminate is set")
        self._native, self._inputs, self._outputs, self._places = native, inputs, outputs, places
        self._in_dtypes, self._out_dtypes = dtypes
        self._watch = recorder.watch if recorder is not None else Watch() if options is not None else None
        self._stop = None  # what the watch points to
        if options is not None and self._watch is not None:
            self._stop = pointer(options.__dict__["stop"])
            self._watch.stop = cast(self._stop, POINTER(type(options.__dict__["stop"])))
        if self._watch is not None:
            self._watch.time_limit, self._watch.trip_limit = limits
        self.dims: dict[str, int] = {}

    def __call__(self, feed: object) -> list[Array] | int:
        given = normalise(self._inputs, self._in_dtypes, feed)
        arrays = [given[port.name] for port in self._inputs]
        for port, array in zip(self._inputs, arrays, strict=True):
            self.dims.update({d: n for d, n in zip(port.dims, array.shape, strict=True) if isinstance(d, str)})
        results: list[Any] = [None] * len(self._outputs)

        def output(index: int, shape: tuple[int, ...]) -> Array:
            place = self._places.get(index)
            if place is not None:
                _check_place(self._outputs[index].name, place, shape, self._out_dtypes[index])
            if place is None or any(np.may_share_memory(place, array) for array in arrays):
                try:
                    place = np.empty(shape, self._out_dtypes[index])
                except (MemoryError, ValueError) as error:
                    raise OutOfMemoryError(f"output {self._outputs[index].name!r}: {error}") from None
            results[index] = place
            return place

        status = self._native.run(arrays, output, self._watch)
        return status or results

    def placed(self, results: Sequence[Any]) -> list[Any]:
        """The session's outputs, those with a place in it."""
        found = list(results)
        for index, place in self._places.items():
            value = found[index]
            if value is place:
                continue
            if not isinstance(value, np.ndarray) or value.shape != place.shape or value.dtype != place.dtype:
                raise BindingError(
                    f"output {index}", expected=f"memory for {getattr(value, 'dtype', type(value).__name__)} "
                    f"{list(getattr(value, 'shape', []))}", actual=f"{place.dtype} {list(place.shape)}",
                )  # fmt: skip
            place[...] = value
            found[index] = place
        return found


def _check_place(name: str, place: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """What is written there natively must lie inside the array."""
    if place.shape != shape:
        raise BindingError(f"output {name!r}", expected=f"memory of shape {list(shape)}", actual=list(place.shape))
    if place.dtype != dtype:
        raise BindingError(f"output {name!r}", expected=f"memory of {dtype}", actual=place.dtype)
    if not (place.flags.c_contiguous and place.flags.aligned and place.flags.writeable):
        raise BindingError(f"output {name!r}", expected="contiguous, aligned memory that can be written")
