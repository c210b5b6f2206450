"""Every error that Vitrify raises on purpose.

Each carries what was expected, what came and what to do about it, so that a message can be acted on
without reading the source. Nothing else is raised for bad input.
"""

from __future__ import annotations

from collections.abc import Sequence

# ---- onnxruntime's classes: what a script catches there also catches what is raised here


class Fail(Exception):
    """Anything that has no class of its own."""


class InvalidArgument(Exception):
    """A feed, an index or an option is wrong."""


class NoSuchFile(Exception):
    """The model's file does not exist."""


class NoModel(Exception):
    """There is no model where one should be."""


class EngineError(Exception):
    """What compiles or runs a model failed."""


class RuntimeException(Exception):
    """A run failed."""


class InvalidProtobuf(Exception):
    """The bytes are no model."""


class ModelLoaded(Exception):
    """The session has its model already. Never raised here: a session is made with its model."""


class ModelLoadCanceled(Exception):
    """Loading was cancelled by ``SessionOptions.set_load_cancellation_flag``."""


class NotImplemented(Exception):
    """The model needs something that is not provided."""


class InvalidGraph(Exception):
    """The model's graph breaks a rule."""


class EPFail(Exception):
    """The execution provider cannot run here."""


# ---- ours

LONGEST_LINE = 4000  # characters of a message: names in a hostile model may be a megabyte long


def shortened(line: str) -> str:
    """Long words lose their middle first, so that what is said between them stays."""
    if len(line) <= LONGEST_LINE:
        return line
    words = [word if len(word) <= 400 else _cut(word, 200) for word in line.split(" ")]
    return _cut(" ".join(words), LONGEST_LINE // 2)


def _cut(text: str, kept: int) -> str:
    more = len(text) - 2 * kept
    return text if more <= 0 else f"{text[:kept]} … ({more} more characters) … {text[-kept:]}"


class VitrifyError(Exception):
    """Base class. ``str(error)`` is all of it: ``message``, what was ``expected``, the ``actual``, the ``hint``."""

    def __init__(
        self, message: str, *, expected: object = None, actual: object = None, hint: str | None = None
    ) -> None:
        self.message = message
        self.expected = expected
        self.actual = actual
        self.hint = hint
        parts = [message]
        if expected is not None:
            parts.append(f"expected {expected}")
        if actual is not None:
            parts.append(f"got {actual}")
        text = "\n".join(map(shortened, "; ".join(parts).split("\n")))
        super().__init__(f"{text}\n  hint: {hint}" if hint else text)


class ModelError(VitrifyError):
    """The model itself is unusable."""


class InvalidModelError(ModelError, InvalidProtobuf, InvalidGraph, InvalidArgument, Fail):
    """Not a model, truncated, or ill-formed (cycles, undefined names, wrong types)."""


class ExternalDataError(ModelError, Fail):
    """A tensor's external file is missing, too short, or outside the model's directory."""


class NoSuchFileError(ModelError, NoSuchFile, FileNotFoundError):
    """The path does not exist."""


class UnsupportedError(ModelError, NotImplemented, InvalidGraph, Fail):
    """The model needs something this version does not provide. ``problems`` lists all of them; ``inputs`` names
    the inputs with whose values known (``CompileOptions.input_values``) none of them might be left."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None, inputs: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        self.inputs = tuple(inputs)
        shown = "\n".join(f"  - {p}" for p in self.problems)
        count = len(self.problems)
        super().__init__(f"{count} unsupported construct{'s' if count != 1 else ''}:\n{shown}", hint=hint)


class VerifyError(ModelError, InvalidGraph):
    """IR that breaks a rule; the message shows the surrounding IR. A bug in a pass, or invalid IR text."""


class InvalidArgumentError(VitrifyError, InvalidArgument, ValueError):
    """A call's argument is wrong: a name, dtype, rank, shape, option or provider."""


class ArgumentTypeError(InvalidArgumentError, TypeError):
    """An argument or option has the wrong Python type."""


class UnknownNameError(InvalidArgumentError, AttributeError):
    """Options have no such name."""


class BindingError(InvalidArgumentError, RuntimeError):
    """An IOBinding, an OrtValue, or an entry of a configuration is used wrongly."""


class TerminatedError(VitrifyError, Fail, RuntimeError):
    """A run was ended, or not begun, because ``RunOptions.terminate`` was set."""


class RunLimitError(TerminatedError):
    """A run was ended because it took longer than ``time_limit_seconds``, or its loops made more trips than
    ``loop_trip_limit``, of RunOptions or SessionOptions."""


class LoadCancelledError(VitrifyError, ModelLoadCanceled, Fail):
    """A session was not made because loading was cancelled."""


class IndexOutOfRangeError(VitrifyError, InvalidArgument, RuntimeException, IndexError):
    """A run met an index outside its axis; the message names the node."""


class ShapeError(VitrifyError, InvalidArgument, RuntimeException, Fail, ValueError):
    """A run's shapes contradict the model, or shape arithmetic overflowed."""


class DivisionError(VitrifyError, RuntimeException, Fail, ZeroDivisionError):
    """A run divided an integer by zero; the message names the node."""


class CustomOpError(VitrifyError, RuntimeException, Fail):
    """A custom op's reference gave other than its rule says, or its C source reported a failure."""


class MissingCustomOpError(VitrifyError, NotImplemented, Fail):
    """An artifact needs custom ops that this process has not registered, or has registered with another signature."""


class OutOfMemoryError(VitrifyError, RuntimeException, Fail, MemoryError):
    """Memory could not be had, or the run's stated need is over the limit."""


class ToolchainError(VitrifyError, EngineError, Fail):
    """What compiling needs is missing (the C compiler, a package of the extra ``compile``), or the compiler
    failed; the message carries its diagnostics."""


class DeclaredShapeWarning(UserWarning):
    """A model declares a shape of an output or of a value inside that its nodes do not give; theirs is used, as
    onnxruntime does."""


class ArtifactError(VitrifyError, NoModel, InvalidProtobuf, Fail):
    """An artifact is damaged, incomplete, or not one at all. ``path`` is where it lies, if that is known; ``code``
    is the exit status of the command line for errors of the class."""

    code = 11

    def __init__(
        self, message: str, *, path: str | None = None, expected: object = None, actual: object = None,
        hint: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(f"{path}: {message}" if path else message, expected=expected, actual=actual, hint=hint)
        self.message = message
        self.path = path


class ContainerError(ArtifactError):
    """The file is not the one valid encoding of its contents."""


class ManifestError(ArtifactError):
    """A document of an artifact is not canonical JSON, or not of its schema."""


class LimitError(ArtifactError):
    """An artifact is larger, deeper, or made of more parts than any is."""


class UnsignedError(ArtifactError):
    """An artifact has no signature."""

    code = 10


class SignatureError(ArtifactError):
    """A signature is not one of the artifact's manifest by the key it names."""

    code = 12


class UntrustedKeyError(SignatureError):
    """Too few of the keys that signed are trusted."""


class IntegrityError(ArtifactError):
    """A file of an artifact is missing, unlisted, or not the one that was signed."""

    code = 13


class RaceError(IntegrityError):
    """A file changed while it was examined, or others may write where it lies."""


class PolicyError(ArtifactError):
    """The policy forbids the artifact: now, in this release, or under its licence."""

    code = 14


class PlatformError(ArtifactError, EPFail):
    """No payload of the artifact runs on this CPU or operating system."""

    code = 15


class NativeCodeError(ArtifactError):
    """A payload holds more than code, constants and the listed exports."""

    code = 16


class SchemaError(ArtifactError):
    """Inputs, outputs or the interface are not those that payload and caller agree on."""

    code = 17


class ProbeError(ArtifactError):
    """The results of an artifact's probe inputs are not the recorded ones."""

    code = 18


class LeakError(ArtifactError):
    """A file names a path of the machine that it was made on."""

    code = 19


class CacheError(VitrifyError, Fail):
    """The compile cache cannot be used as asked."""
