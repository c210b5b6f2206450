"""``@host_op``: the ops of host programs. What is registered prepares an op from its settings, once a session.

Values are arrays (of Python strings where they are strings), lists, None and dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...artifact.dtypes import BY_NAME
from ...artifact.manifest import Setting, Step
from ...errors import ArtifactError, IndexOutOfRangeError, InvalidArgumentError, VitrifyError
from ..feed import native_dtype

Array = np.ndarray[Any, Any]
Apply = Callable[[Sequence[Any]], Sequence[Any]]
Prepare = Callable[["Settings"], Apply]

_OPS: dict[str, Prepare] = {}


class Failure(Exception):
    """A step cannot give its results; the message has no place yet."""

    def __init__(
        self, message: str, kind: type[VitrifyError] = InvalidArgumentError,
        *, expected: object = None, actual: object = None, hint: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.kind = kind
        self.detail = {"expected": expected, "actual": actual, "hint": hint}

    def at(self, source: str) -> VitrifyError:
        """The error to raise, naming the node."""
        return self.kind(f"{source}: {self}", **self.detail)  # type: ignore[arg-type]


class Settings:
    """Typed access to a step's attributes. What is missing or of another kind raises ArtifactError."""

    def __init__(self, step: Step) -> None:
        self.outputs = step.outputs
        self._step = step
        self._settings: Mapping[str, Setting] = step.settings

    def __contains__(self, name: str) -> bool:
        return name in self._settings

    def _values(self, name: str, kind: str) -> tuple[int | str, ...]:
        setting = self._settings.get(name)
        if setting is None or setting.kind != kind:
            raise ArtifactError(
                f"manifest: host step {self._step.op!r}: setting {name!r}", expected=kind,
                actual=None if setting is None else setting.kind, hint="compile the model again",
            )  # fmt: skip
        return setting.values

    def _one(self, name: str, kind: str) -> int | str:
        values = self._values(name, kind)
        if len(values) != 1:
            raise ArtifactError(
                f"manifest: host step {self._step.op!r}: setting {name!r}", expected="one value", actual=len(values)
            )
        return values[0]

    def integer(self, name: str, default: int | None = None) -> int:
        return default if default is not None and name not in self else int(self._one(name, "int"))

    def text(self, name: str, default: str | None = None) -> str:
        return default if default is not None and name not in self else str(self._one(name, "string"))

    def integers(self, name: str) -> list[int]:
        return [int(v) for v in self._values(name, "int")]

    def texts(self, name: str) -> list[str]:
        return [str(v) for v in self._values(name, "string")]

    def floats(self, name: str) -> list[float]:
        return [float.fromhex(str(v)) for v in self._values(name, "float")]

    def any(self, name: str) -> list[Any]:
        """Values of whichever kind."""
        setting = self._settings.get(name)
        if setting is not None and setting.kind == "float":
            return self.floats(name)
        return list(self._values(name, "int" if setting is None else setting.kind))

    def dtype(self, name: str = "dtype") -> np.dtype[Any]:
        """The NumPy type of a dtype's name; of strings, object."""
        text = self.text(name)
        if text == "string":
            return np.dtype(object)
        if text not in BY_NAME:
            raise ArtifactError(f"manifest: host step {self._step.op!r}: dtype", expected="a dtype", actual=text)
        return native_dtype(BY_NAME[text])


def host_op(*names: str) -> Callable[[Prepare], Prepare]:
    def register(prepare: Prepare) -> Prepare:
        for name in names:
            _OPS[name] = prepare
        return prepare

    return register


def prepare(step: Step) -> Apply:
    """The step as a function of its inputs. Raises ArtifactError for an op or settings it does not know, and
    :class:`Failure` for settings that the op refuses."""
    from . import encoders, movement, ngrams, sequences, strings  # noqa: F401  (registers the ops)

    if step.op not in _OPS:
        raise ArtifactError(
            f"manifest: host step {step.op!r} is unknown", expected="an op of this version",
            hint="compile the model again with this version",
        )  # fmt: skip
    return _OPS[step.op](Settings(step))


def objects(items: Sequence[object], shape: Sequence[int]) -> Array:
    """An array of Python objects, whatever they are."""
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(tuple(shape))


def position(value: Any, size: int, *, inserting: bool = False) -> int:
    """A position in a list, counted from the end where negative."""
    index = int(np.asarray(value).reshape(()))
    last = size if inserting else size - 1
    if not -size <= index <= last:
        allowed = f"{-size} to {last}"
        raise Failure(f"position {index} of a sequence of {size}", IndexOutOfRangeError, expected=allowed, actual=index)
    return index + size if index < 0 else index
