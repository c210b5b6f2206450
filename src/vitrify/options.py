"""What a compile may be told. Kept apart from the compiler: a cached model is found without importing it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Union

import numpy as np

from vitrify.errors import InvalidArgumentError
from vitrify.runtime.cpu import detect, request_amx, supported_targets

#: Called with what is being done, how much of it is done, and how much there is (0: not known).
Progress = Callable[[str, int, int], None]

#: What /proc/cpuinfo must list for each extension of a target.
CPU_FEATURES = {
    "vnni": frozenset({"avx512_vnni"}), "bf16": frozenset({"avx512_bf16"}),
    "amx-bf16": frozenset({"amx_tile", "amx_bf16"}), "amx-int8": frozenset({"amx_tile", "amx_int8"}),
}  # fmt: skip
_EXTENSIBLE = "x86-64-v4"
MOST_VALUES = 4096  # elements of an input that is a constant
MOST_PROBES = 256


#: What ``input_shapes`` may say of an input.
Stated = Union[Sequence[Union[int, str, None]], Sequence[Sequence[Union[int, str, None]]], None]


class OptLevel(IntEnum):
    """How much the compiler may do. Results differ between levels only by rounding."""

    NONE = 0  # as the model says
    BASIC = 1  # folding, dead code, common subexpressions
    EXTENDED = 2  # and fusion
    ALL = 3  # and layouts


@dataclass(frozen=True)
class CompileOptions:
    """How a model is compiled. Values that mean nothing raise InvalidArgumentError.

    - ``targets``: names of payloads (``x86-64-v3``, ``x86-64-v4``, ``aarch64`` of Linux, with extensions as in
      ``x86-64-v4+bf16``; ``macos-aarch64``, ``macos-x86_64``, ``windows-x86_64``); none for this machine's best.
    - ``optimization_level``: see :class:`OptLevel`.
    - ``accurate``: no algorithm whose rounding error is larger than plain summation's (no Winograd).
    - ``batch_invariant``: the same bits for a request alone and inside a batch. One form for every batch size
      gives that already, so this refuses ``specialize``, whose forms may sum in another order.
    - ``bf16``: products of matrices and convolutions in bfloat16 with sums in float32, and what they read
      kept in memory as bfloat16 where the machine multiplies matrices of it (AMX): about three
      significant digits, a tolerance that the caller grants.
    - ``input_shapes``: for an input's name its dims: numbers fix them, names and None leave them open. For a
      sequence, the list of its elements' dims, which fixes its length; None for an optional without element.
    - ``dim_overrides``: numbers for named dims.
    - ``input_values``: for an input's name its elements (an array, or what NumPy makes one of): the input is a
      constant of the compiled form, and no input of it any more.
    - ``dynamic_batch``: axis 0 of every input is one dim, ``batch``, of any size (inputs in ``input_shapes``
      are as these say).
    - ``reuse_memory``: values that are never needed at once share memory; without it a run's values all
      stay in the arena.
    - ``probes``: how many made-up inputs, or which inputs (a list of arrays by the inputs' names), the artifact
      carries with what they give; every session of it runs them first.
    - ``probe_dims``: sizes of open dims in made-up probes; 2 for those that are not here.
    - ``cache_dir``: the directory of the compile cache.
    - ``specialize``: sets of input shapes (for an input's name its sizes) that get code of their own beside
      the general code; runs with these shapes are faster.
    """

    targets: tuple[str, ...] = ()
    optimization_level: OptLevel = OptLevel.ALL
    accurate: bool = False
    batch_invariant: bool = False
    bf16: bool = False
    input_shapes: Mapping[str, Stated] = field(default_factory=dict)
    dim_overrides: Mapping[str, int] = field(default_factory=dict)
    input_values: Mapping[str, Any] = field(default_factory=dict)
    specialize: Sequence[Mapping[str, Sequence[int]]] = ()
    dynamic_batch: bool = False
    reuse_memory: bool = True
    probes: int | Sequence[Mapping[str, Any]] = 0
    probe_dims: Mapping[str, int] = field(default_factory=dict)
    cache_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.targets, (str, Sequence)):
            raise _refused("targets", "a name, or a list of names", self.targets)
        targets = (self.targets,) if isinstance(self.targets, str) else tuple(self.targets)
        object.__setattr__(self, "targets", targets)
        for target in targets:
            _check_target(target)
        level = self.optimization_level
        if isinstance(level, bool) or level not in tuple(OptLevel):
            levels = ", ".join(f"{known.name} = {known.value}" for known in OptLevel)
            raise _refused("optimization_level", f"one of {levels}", level)
        object.__setattr__(self, "optimization_level", OptLevel(level))
        for name in ("accurate", "batch_invariant", "bf16", "dynamic_batch", "reuse_memory"):
            if not isinstance(value := getattr(self, name), bool):
                raise _refused(name, "True or False", value)
        if self.cache_dir is not None and not isinstance(self.cache_dir, (str, os.PathLike)):
            raise _refused("cache_dir", "a path, or None", self.cache_dir)
        _check_shapes(self.input_shapes, _is_stated)
        _check_overrides("dim_overrides", self.dim_overrides)
        _check_overrides("probe_dims", self.probe_dims)
        object.__setattr__(self, "input_values", _arrays("input_values", self.input_values, MOST_VALUES))
        object.__setattr__(self, "probes", _probes(self.probes))
        if not isinstance(self.specialize, Sequence):
            raise _refused("specialize", "a list of dims by the inputs' names", self.specialize)
        for shapes in self.specialize:
            _check_shapes(shapes)
        if self.batch_invariant and self.specialize:
            raise _refused("specialize", "none with batch_invariant: other forms sum in other orders", self.specialize)

    def resolved_targets(self) -> tuple[str, ...]:
        """``targets``, with none resolved for this machine. Raises PlatformError on unknown machines and
        InvalidArgumentError where no known target runs."""
        if self.targets:
            return self.targets
        cpu = detect()
        names = supported_targets(cpu)
        if not names:
            raise _refused("targets", "a name: this CPU runs none of the known targets", "none")
        usable = [e for e, needs in CPU_FEATURES.items() if needs <= cpu.features]
        exact = ["vnni", *(["amx-int8"] if "amx-int8" in usable and request_amx() else [])]
        wanted = [e for e in usable if e in exact or (self.bf16 and "bf16" in e)]
        return ("+".join((names[0], *wanted)) if names[0] == _EXTENSIBLE else names[0],)

    def identity(self) -> str:
        """What of the options the compiled code depends on, as text."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        del values["cache_dir"]
        values["targets"] = self.resolved_targets()
        values["input_shapes"] = sorted((k, repr(_plain(v))) for k, v in self.input_shapes.items())
        values["specialize"] = [sorted((k, tuple(v)) for k, v in shapes.items()) for shapes in self.specialize]
        values["dim_overrides"] = sorted(self.dim_overrides.items())
        values["probe_dims"] = sorted(self.probe_dims.items())
        values["input_values"] = _bits(self.input_values)
        values["probes"] = self.probes if isinstance(self.probes, int) else [_bits(feed) for feed in self.probes]
        return repr(sorted(values.items()))


def compile_options(options: CompileOptions | None, given: Mapping[str, Any]) -> CompileOptions:
    """``options``, or those ``given`` by name. InvalidArgumentError for both, and for unknown names."""
    if options is not None and not isinstance(options, CompileOptions):
        raise _refused("options", "CompileOptions", options)
    if options is not None and given:
        raise InvalidArgumentError(
            "options are given twice", expected="CompileOptions, or options by name", actual=", ".join(given)
        )
    known = [f.name for f in fields(CompileOptions)]
    if unknown := [name for name in given if name not in known]:
        raise InvalidArgumentError(
            "unknown option", expected=f"one of {', '.join(known)}", actual=", ".join(unknown)
        )
    return options or CompileOptions(**given)


def _refused(name: str, expected: str, actual: object) -> InvalidArgumentError:
    return InvalidArgumentError(f"option {name}", expected=expected, actual=repr(actual))


def _check_target(name: object) -> None:
    from vitrify.runtime.cpu import ELSEWHERE, TARGETS

    base, *extensions = name.split("+") if isinstance(name, str) else [""]
    if base not in TARGETS and base not in ELSEWHERE:
        raise _refused("targets", " or ".join((*TARGETS, *ELSEWHERE)), name)
    unknown = [e for e in extensions if e not in CPU_FEATURES]
    if unknown or (extensions and base != _EXTENSIBLE):
        raise _refused("targets", f"{_EXTENSIBLE} with + and some of {', '.join(CPU_FEATURES)}", name)


def _plain(stated: Any) -> Any:
    """With tuples for lists, which state the same."""
    listed = isinstance(stated, Sequence) and not isinstance(stated, str)
    return tuple(_plain(part) for part in stated) if listed else stated


def _is_dims(dims: object) -> bool:
    fitting = isinstance(dims, Sequence) and not isinstance(dims, (str, bytes))
    return fitting and all(d is None or isinstance(d, str) or _is_size(d) for d in dims)  # type: ignore[attr-defined]


def _is_stated(stated: object) -> bool:
    """Dims, or None, or a list of dims for each element."""
    elements = isinstance(stated, Sequence) and not isinstance(stated, (str, bytes)) and all(map(_is_dims, stated))
    return stated is None or _is_dims(stated) or elements


def _check_shapes(shapes: object, fits: Callable[[object], bool] = _is_dims) -> None:
    if not isinstance(shapes, Mapping):
        raise _refused("input_shapes", "dims by the inputs' names", shapes)
    for name, dims in shapes.items():
        if not fits(dims):
            raise _refused(f"input_shapes[{name!r}]", "numbers, names of dims, or None", dims)


def _check_overrides(option: str, overrides: object) -> None:
    if not isinstance(overrides, Mapping) or not all(_is_size(v) for v in overrides.values()):
        raise _refused(option, "numbers by the dims' names", overrides)


def _bits(arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[tuple[Any, ...]]:
    return sorted((k, v.dtype.name + v.dtype.str, v.shape, v.tobytes()) for k, v in arrays.items())


def _probes(given: object) -> int | tuple[dict[str, np.ndarray[Any, Any]], ...]:
    number = given if _is_size(given) else len(given) if isinstance(given, (list, tuple)) else -1
    if not isinstance(number, int) or not 0 <= number <= MOST_PROBES:
        raise _refused("probes", f"a number up to {MOST_PROBES}, or a list of arrays by the inputs' names", given)
    return number if not isinstance(given, (list, tuple)) else tuple(_arrays("probes", feed) for feed in given)


def _arrays(option: str, values: object, most: int | None = None) -> dict[str, np.ndarray[Any, Any]]:
    if not isinstance(values, Mapping):
        raise _refused(option, "arrays by the inputs' names", values)
    arrays = {}
    for name, value in values.items():
        try:
            arrays[str(name)] = np.ascontiguousarray(value).reshape(np.shape(value))
        except (ValueError, TypeError):  # lists of different lengths
            raise _refused(f"{option}[{name!r}]", "an array, or nested lists of one shape", value) from None
    for name, array in arrays.items():
        if array.dtype.kind not in ("biuf" if most else "biufV") or (most and array.size > most):
            raise _refused(f"{option}[{name!r}]", f"at most {most} numbers" if most else "numbers", array)
    return arrays


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62
