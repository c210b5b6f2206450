"""Probes: inputs and what a run of them has to give, which an artifact carries and loading compares.

Arrays lie in files of their own, C order, little-endian, elements as sessions take them. An output is an array with
a tolerance, or the SHA-256 of its bytes where every bit has to be the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import Any, Protocol

from . import schema as s
from .container import check_name
from .dtypes import BY_NAME
from .record import Record

MAX_RANK = 64


class Given(Record):
    """An input's array, in ``file``."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    file: str


class Awaited(Record):
    """An output: its array in ``file``, from which elements may differ by ``tolerance`` (a float as ``float.hex``
    writes it) times the largest finite element there; or the SHA-256 of its bytes. The others are None."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    file: str | None
    tolerance: str | None
    sha256: str | None


class Probe(Record):
    """One run: the plan's inputs and its outputs, in their order."""

    inputs: tuple[Given, ...]
    outputs: tuple[Awaited, ...]

    @property
    def files(self) -> list[str]:
        """All that it reads."""
        return [given.file for given in self.inputs] + [a.file for a in self.outputs if a.file is not None]


class Declared(Protocol):
    """What a probe's arrays have to fit: an input or output of the manifest."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def dims(self) -> tuple[int | str, ...]: ...


def _file(value: Any, where: str) -> str:
    name = s.text(value, where)
    check_name(name)
    return name


def _dtype(value: Any, where: str) -> str:
    return s.one_of(*BY_NAME)(value, where)


def _tolerance(value: Any, where: str) -> str:
    """Text that ``float.hex`` writes for a finite number that is not negative."""
    try:
        found = float.fromhex(s.text(value, where))
    except (ValueError, OverflowError):
        found = -1.0
    if not (isfinite(found) and found >= 0 and found.hex() == value):
        raise s.refusal(where, "a float in hexadecimal, 0 or more", value)
    return str(value)


parse_probe = s.record(
    Probe,
    inputs=s.several(s.record(Given, name=s.text, dtype=_dtype, dims=s.several(s.count), file=_file)),
    outputs=s.several(
        s.record(
            Awaited, name=s.text, dtype=_dtype, dims=s.several(s.count), file=s.optional(_file),
            tolerance=s.optional(_tolerance), sha256=s.optional(s.digest),
        )
    ),
)  # fmt: skip


def nbytes(array: Given | Awaited) -> int:
    """The size of its bytes."""
    return BY_NAME[array.dtype].itemsize * prod(array.dims)


def check_probes(
    probes: Sequence[Probe], inputs: Sequence[Declared], outputs: Sequence[Declared], sizes: Mapping[str, int]
) -> None:
    """Raises ManifestError where probes do not fit the interface, or ``sizes``, the bytes of all files for probes."""
    used = {name for probe in probes for name in probe.files}
    for index, probe in enumerate(probes):
        sides: list[tuple[str, Sequence[Given | Awaited], Sequence[Declared]]]
        sides = [("inputs", probe.inputs, inputs), ("outputs", probe.outputs, outputs)]
        for side, arrays, ports in sides:
            where = f"validation[{index}].{side}"
            if [a.name for a in arrays] != [p.name for p in ports]:
                raise s.refusal(where, f"arrays for {[p.name for p in ports]}", [a.name for a in arrays])
            for array, port in zip(arrays, ports, strict=True):
                _check_array(array, port, sizes, where)
    if used != sizes.keys():
        raise s.refusal("files", f"for probes exactly {sorted(used)}", sorted(sizes))


def _check_array(array: Given | Awaited, port: Declared, sizes: Mapping[str, int], where: str) -> None:
    fits = (
        array.dtype == port.dtype and len(array.dims) == len(port.dims) <= MAX_RANK
        and all(type(stated) is str or stated == size for stated, size in zip(port.dims, array.dims, strict=True))
    )  # fmt: skip
    if not fits:
        expected, actual = (f"{one.dtype} {list(one.dims)}" for one in (port, array))
        raise s.refusal(f"{where} {array.name!r}", expected, actual)
    if isinstance(array, Awaited) and not (
        (array.file is None) == (array.tolerance is None) != (array.sha256 is None)
    ):
        raise s.refusal(f"{where} {array.name!r}", "a file with a tolerance, or a digest", array)
    if array.file is not None and sizes.get(array.file) != nbytes(array):
        raise s.refusal(f"{where} {array.name!r}", f"a file of {nbytes(array)} bytes", sizes.get(array.file))
