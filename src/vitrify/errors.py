"""Every error that Vitrify raises on purpose.

Each carries what was expected, what came and what to do about it, so that a message can be acted on
without reading the source. Nothing else is raised for bad input.
"""

from __future__ import annotations

from collections.abc import Sequence


class VitrifyError(Exception):
    """Base class. ``str(error)`` is the message followed by the hint."""

    def __init__(
        self, message: str, *, expected: object = None, actual: object = None, hint: str | None = None
    ) -> None:
        self.expected = expected
        self.actual = actual
        self.hint = hint
        parts = [message]
        if expected is not None:
            parts.append(f"expected {expected}")
        if actual is not None:
            parts.append(f"got {actual}")
        text = "; ".join(parts)
        super().__init__(f"{text}\n  hint: {hint}" if hint else text)


class ModelError(VitrifyError):
    """The model itself is unusable."""


class InvalidModelError(ModelError):
    """Not a model, truncated, or ill-formed (cycles, undefined names, wrong types)."""


class ExternalDataError(ModelError):
    """A tensor's external file is missing, too short, or outside the model's directory."""


class NoSuchFileError(ModelError, FileNotFoundError):
    """The path does not exist."""


class UnsupportedError(ModelError):
    """The model needs something this version does not provide. ``problems`` lists all of them."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        shown = "\n".join(f"  - {p}" for p in self.problems)
        count = len(self.problems)
        super().__init__(f"{count} unsupported construct{'s' if count != 1 else ''}:\n{shown}", hint=hint)


class VerifyError(ModelError):
    """IR that breaks a rule; the message shows the surrounding IR. A bug in a pass, or invalid IR text."""


class InvalidArgumentError(VitrifyError, ValueError):
    """A call's argument is wrong: a name, dtype, rank, shape, option or provider."""


class IndexOutOfRangeError(VitrifyError, IndexError):
    """A run met an index outside its axis; the message names the node."""


class ShapeError(VitrifyError, ValueError):
    """A run's shapes contradict the model, or shape arithmetic overflowed."""


class DivisionError(VitrifyError, ZeroDivisionError):
    """A run divided an integer by zero; the message names the node."""


class OutOfMemoryError(VitrifyError, MemoryError):
    """Memory could not be had, or the run's stated need is over the limit."""


class ToolchainError(VitrifyError):
    """What compiling needs is missing (the C compiler, a package of the extra ``compile``), or the compiler
    failed; the message carries its diagnostics."""


class ArtifactError(VitrifyError):
    """An artifact is damaged, incomplete, or not one at all."""


class PlatformError(ArtifactError):
    """No payload of the artifact runs on this CPU or operating system."""


class CacheError(VitrifyError):
    """The compile cache cannot be used as asked."""
