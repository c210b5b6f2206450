"""Probes run: what an artifact's payload makes of the inputs it carries, beside what it says has to come out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifact.dtypes import BY_NAME
from ..artifact.loading import Artifact
from ..artifact.validation import Awaited, Given, Probe
from ..errors import IntegrityError, OutOfMemoryError, ProbeError, TerminatedError, VitrifyError

if TYPE_CHECKING:
    from .session import Session

Array = np.ndarray[Any, Any]
_HINT = "this machine computes something else than the one that built the artifact; build it again, or report this"

# bits of exponent and fraction, the exponent's bias, and whether the greatest exponent is for infinities and NaN
_NARROW = {
    "f8e4m3fn": (4, 3, 7, False), "f8e4m3fnuz": (4, 3, 8, False), "f8e5m2": (5, 2, 15, True),
    "f8e5m2fnuz": (5, 2, 16, False),
}  # fmt: skip


def check_probes(session: Session, dtypes: Sequence[np.dtype[Any]]) -> None:
    """Runs every probe of the session's artifact. ``dtypes`` are those of the inputs' arrays.

    Raises ProbeError for the first element that is farther from what was recorded than the artifact allows, for
    another shape, and where a run fails; OutOfMemoryError and RunLimitError where the session's own limits end one,
    IntegrityError where weights are not what was signed.
    """
    artifact = session.artifact
    for index, probe in enumerate(artifact.manifest.validation):
        feed = {
            given.name: read_array(artifact, given).view(dtype)
            for given, dtype in zip(probe.inputs, dtypes, strict=True)
        }
        try:
            found = session.run_plan(feed)
        except (OutOfMemoryError, TerminatedError, IntegrityError):
            raise
        except VitrifyError as error:
            raise ProbeError(f"probe {index} does not run: {error}", path=artifact.path, hint=_HINT) from None
        _compare(artifact, index, probe, found)


def read_array(artifact: Artifact, given: Given | Awaited) -> Array:
    """The array of a probe, in the type that carries its bits. IntegrityError where its file was changed."""
    assert given.file is not None
    carrier = np.dtype(BY_NAME[given.dtype].carrier).newbyteorder("<")
    array: Array = np.frombuffer(artifact.read(given.file), carrier).reshape(given.dims)
    return array.astype(carrier.newbyteorder("="))  # aligned, writable, native


def _compare(artifact: Artifact, index: int, probe: Probe, found: Sequence[Array]) -> None:
    for awaited, array in zip(probe.outputs, found, strict=True):
        where = f"probe {index}: output {awaited.name!r}"
        bits = np.ascontiguousarray(array).view(BY_NAME[awaited.dtype].carrier)
        if bits.shape != awaited.dims:
            raise ProbeError(
                f"{where} has another shape", path=artifact.path, expected=list(awaited.dims),
                actual=list(bits.shape), hint=_HINT,
            )  # fmt: skip
        if awaited.file is None:
            digest = array_digest(bits)
            if digest != awaited.sha256:
                raise ProbeError(
                    f"{where} is another", path=artifact.path, expected=f"bytes with SHA-256 {awaited.sha256}",
                    actual=digest, hint=_HINT,
                )  # fmt: skip
            continue
        assert awaited.tolerance is not None
        tolerance = float.fromhex(awaited.tolerance)
        if wrong := difference(bits, read_array(artifact, awaited), awaited.dtype, tolerance):
            raise ProbeError(f"{where} is another", path=artifact.path, expected=wrong[0], actual=wrong[1], hint=_HINT)


def array_digest(bits: Array) -> str:
    """SHA-256 of the elements, C order, little-endian."""
    little = np.ascontiguousarray(bits).astype(bits.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()


def difference(found: Array, expected: Array, dtype: str, tolerance: float) -> tuple[str, str] | None:
    """The worst element that was expected and what was found in its place, where that is farther off than
    ``tolerance`` times the largest finite element expected; None where all are near. Arrays are of the type that
    carries ``dtype``'s bits. Infinities equal themselves, a NaN nothing."""
    if not expected.size or (tolerance == 0 and np.array_equal(found, expected) and dtype[0] != "f"):
        return None
    with np.errstate(all="ignore"):
        ours, theirs = numbers(found, dtype), numbers(expected, dtype)
        scale = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)) or 1.0
        apart = np.where(ours == theirs, 0.0, np.abs(ours - theirs) / scale)
        wrong = ~(apart <= tolerance)
    if dtype[0] != "f":
        wrong |= found != expected  # 64-bit integers may be equal as floats and differ
    if not wrong.any():
        return None
    worst = np.unravel_index(int(np.argmax(np.where(wrong, np.nan_to_num(apart, nan=np.inf), -1.0))), wrong.shape)
    place = f"[{', '.join(map(str, worst))}]"
    allowed = f"{theirs[worst]:.9g} at {place}, within {tolerance:.3g} of the largest element, {scale:.9g}"
    return allowed, f"{ours[worst]:.9g}; {int(wrong.sum())} of {wrong.size} elements are wrong"


def numbers(bits: Array, dtype: str) -> Array:
    """The elements as f64, without ml_dtypes, which may not be installed where artifacts run."""
    if dtype == "bf16":
        bits = (bits.astype(np.uint32) << 16).view(np.float32)
    if dtype in _NARROW:
        bits = _decoded(dtype)[bits.astype(np.intp)]
    return bits.astype(np.float64)


def _decoded(dtype: str) -> Array:
    """The numbers that 8 bits stand for."""
    exponents, fractions, bias, special = _NARROW[dtype]
    code = np.arange(256)
    exponent, fraction = code >> fractions & (1 << exponents) - 1, code & (1 << fractions) - 1
    significand = np.where(exponent == 0, 0.0, 1.0) + fraction / (1 << fractions)
    values: Array = np.where(code & 128, -1.0, 1.0) * significand * 2.0 ** (np.maximum(exponent, 1) - bias)
    if special:
        top = exponent == (1 << exponents) - 1
        values[top] = np.where(fraction[top] == 0, np.where(code[top] & 128, -np.inf, np.inf), np.nan)
    elif dtype.endswith("uz"):
        values[128] = np.nan
    else:
        values[[127, 255]] = np.nan
    return values
