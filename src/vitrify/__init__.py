"""Vitrify turns models into native artifacts, and runs them without a compiler.

>>> import vitrify
>>> session = vitrify.InferenceSession("model.onnx")   # compiled once, then cached
>>> session.run(None, {"input": array})

What is exported is imported when it is first used: running an artifact loads none of the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "InferenceSession": "session",
    "SessionOptions": "runtime.options",
    "GraphOptimizationLevel": "runtime.options",
    "ExecutionMode": "runtime.options",
    "compile": "compiled",
    "CompiledArtifact": "compiled",
    "CompileOptions": "options",
    "OptLevel": "options",
    "CacheWarning": "cache",
    "VitrifyError": "errors",
    "ModelError": "errors",
    "InvalidModelError": "errors",
    "ExternalDataError": "errors",
    "NoSuchFileError": "errors",
    "UnsupportedError": "errors",
    "VerifyError": "errors",
    "InvalidArgumentError": "errors",
    "IndexOutOfRangeError": "errors",
    "ShapeError": "errors",
    "DivisionError": "errors",
    "OutOfMemoryError": "errors",
    "ToolchainError": "errors",
    "ArtifactError": "errors",
    "PlatformError": "errors",
    "CacheError": "errors",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: PLE0604

if TYPE_CHECKING:
    from vitrify.cache import CacheWarning as CacheWarning
    from vitrify.compiled import CompiledArtifact as CompiledArtifact
    from vitrify.compiled import compile as compile
    from vitrify.errors import ArtifactError as ArtifactError
    from vitrify.errors import CacheError as CacheError
    from vitrify.errors import DivisionError as DivisionError
    from vitrify.errors import ExternalDataError as ExternalDataError
    from vitrify.errors import IndexOutOfRangeError as IndexOutOfRangeError
    from vitrify.errors import InvalidArgumentError as InvalidArgumentError
    from vitrify.errors import InvalidModelError as InvalidModelError
    from vitrify.errors import ModelError as ModelError
    from vitrify.errors import NoSuchFileError as NoSuchFileError
    from vitrify.errors import OutOfMemoryError as OutOfMemoryError
    from vitrify.errors import PlatformError as PlatformError
    from vitrify.errors import ShapeError as ShapeError
    from vitrify.errors import ToolchainError as ToolchainError
    from vitrify.errors import UnsupportedError as UnsupportedError
    from vitrify.errors import VerifyError as VerifyError
    from vitrify.errors import VitrifyError as VitrifyError
    from vitrify.options import CompileOptions as CompileOptions
    from vitrify.options import OptLevel as OptLevel
    from vitrify.runtime.options import ExecutionMode as ExecutionMode
    from vitrify.runtime.options import GraphOptimizationLevel as GraphOptimizationLevel
    from vitrify.runtime.options import SessionOptions as SessionOptions
    from vitrify.session import InferenceSession as InferenceSession


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
