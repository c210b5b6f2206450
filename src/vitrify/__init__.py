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
    "CustomOpError": "errors",
    "MissingCustomOpError": "errors",
    "ToolchainError": "errors",
    "ArtifactError": "errors",
    "ContainerError": "errors",
    "ManifestError": "errors",
    "LimitError": "errors",
    "UnsignedError": "errors",
    "SignatureError": "errors",
    "UntrustedKeyError": "errors",
    "IntegrityError": "errors",
    "RaceError": "errors",
    "PolicyError": "errors",
    "PlatformError": "errors",
    "NativeCodeError": "errors",
    "SchemaError": "errors",
    "ProbeError": "errors",
    "LeakError": "errors",
    "TrustWarning": "artifact.trust.store",
    "CacheError": "errors",
    "inspect": "sealed",
    "verify": "sealed",
    "load": "sealed",
    "sign": "sealed",
    "pack": "sealed",
    "diff": "sealed",
    "Inspection": "artifact.examination",
    "Verification": "artifact.examination",
    "Comparison": "artifact.comparison",
    "Loaded": "sealed",
    "from_onnx": "session",
    "rebuild": "origin.rebuild",
    "Rebuilt": "origin.rebuild",
    "custom_op": "custom_ops",
    "CustomOp": "custom_ops",
    "TensorSpec": "custom_ops",
    "ExecutionOrder": "runtime.options",
    "RunOptions": "runtime.run_options",
    "OrtValue": "runtime.ort_value",
    "OrtDevice": "runtime.ort_value",
    "IOBinding": "runtime.binding",
    "NodeArg": "runtime.session",
    "ModelMetadata": "runtime.session",
    "Profile": "runtime.profile",
    "KernelTime": "runtime.profile",
    "get_available_providers": "runtime.environment",
    "get_all_providers": "runtime.environment",
    "get_ep_devices": "runtime.environment",
    "get_device": "runtime.environment",
    "get_version_string": "runtime.environment",
    "get_build_info": "runtime.environment",
    "has_collective_ops": "runtime.environment",
    "set_default_logger_severity": "runtime.environment",
    "set_default_logger_verbosity": "runtime.environment",
    "set_seed": "runtime.environment",
    "set_global_thread_pool_sizes": "runtime.environment",
    "disable_telemetry_events": "runtime.environment",
    "enable_telemetry_events": "runtime.environment",
    "ArgumentTypeError": "errors",
    "UnknownNameError": "errors",
    "BindingError": "errors",
    "TerminatedError": "errors",
    "RunLimitError": "errors",
    "DeclaredShapeWarning": "errors",
    "LoadCancelledError": "errors",
    "Fail": "errors",
    "InvalidArgument": "errors",
    "NoSuchFile": "errors",
    "NoModel": "errors",
    "EngineError": "errors",
    "RuntimeException": "errors",
    "InvalidProtobuf": "errors",
    "ModelLoaded": "errors",
    "ModelLoadCanceled": "errors",
    "NotImplemented": "errors",
    "InvalidGraph": "errors",
    "EPFail": "errors",
}

__all__ = ["__version__", "trust", *_EXPORTS]  # noqa: PLE0604

if TYPE_CHECKING:
    from vitrify import trust as trust
    from vitrify.artifact.comparison import Comparison as Comparison
    from vitrify.artifact.examination import Inspection as Inspection
    from vitrify.artifact.examination import Verification as Verification
    from vitrify.artifact.trust.store import TrustWarning as TrustWarning
    from vitrify.cache import CacheWarning as CacheWarning
    from vitrify.compiled import CompiledArtifact as CompiledArtifact
    from vitrify.compiled import compile as compile
    from vitrify.custom_ops import CustomOp as CustomOp
    from vitrify.custom_ops import TensorSpec as TensorSpec
    from vitrify.custom_ops import custom_op as custom_op
    from vitrify.errors import ArgumentTypeError as ArgumentTypeError
    from vitrify.errors import ArtifactError as ArtifactError
    from vitrify.errors import BindingError as BindingError
    from vitrify.errors import CacheError as CacheError
    from vitrify.errors import ContainerError as ContainerError
    from vitrify.errors import CustomOpError as CustomOpError
    from vitrify.errors import DeclaredShapeWarning as DeclaredShapeWarning
    from vitrify.errors import DivisionError as DivisionError
    from vitrify.errors import EngineError as EngineError
    from vitrify.errors import EPFail as EPFail
    from vitrify.errors import ExternalDataError as ExternalDataError
    from vitrify.errors import Fail as Fail
    from vitrify.errors import IndexOutOfRangeError as IndexOutOfRangeError
    from vitrify.errors import IntegrityError as IntegrityError
    from vitrify.errors import InvalidArgument as InvalidArgument
    from vitrify.errors import InvalidArgumentError as InvalidArgumentError
    from vitrify.errors import InvalidGraph as InvalidGraph
    from vitrify.errors import InvalidModelError as InvalidModelError
    from vitrify.errors import InvalidProtobuf as InvalidProtobuf
    from vitrify.errors import LeakError as LeakError
    from vitrify.errors import LimitError as LimitError
    from vitrify.errors import LoadCancelledError as LoadCancelledError
    from vitrify.errors import ManifestError as ManifestError
    from vitrify.errors import MissingCustomOpError as MissingCustomOpError
    from vitrify.errors import ModelError as ModelError
    from vitrify.errors import ModelLoadCanceled as ModelLoadCanceled
    from vitrify.errors import ModelLoaded as ModelLoaded
    from vitrify.errors import NativeCodeError as NativeCodeError
    from vitrify.errors import NoModel as NoModel
    from vitrify.errors import NoSuchFile as NoSuchFile
    from vitrify.errors import NoSuchFileError as NoSuchFileError
    from vitrify.errors import NotImplemented as NotImplemented
    from vitrify.errors import OutOfMemoryError as OutOfMemoryError
    from vitrify.errors import PlatformError as PlatformError
    from vitrify.errors import PolicyError as PolicyError
    from vitrify.errors import ProbeError as ProbeError
    from vitrify.errors import RaceError as RaceError
    from vitrify.errors import RunLimitError as RunLimitError
    from vitrify.errors import RuntimeException as RuntimeException
    from vitrify.errors import SchemaError as SchemaError
    from vitrify.errors import ShapeError as ShapeError
    from vitrify.errors import SignatureError as SignatureError
    from vitrify.errors import TerminatedError as TerminatedError
    from vitrify.errors import ToolchainError as ToolchainError
    from vitrify.errors import UnknownNameError as UnknownNameError
    from vitrify.errors import UnsignedError as UnsignedError
    from vitrify.errors import UnsupportedError as UnsupportedError
    from vitrify.errors import UntrustedKeyError as UntrustedKeyError
    from vitrify.errors import VerifyError as VerifyError
    from vitrify.errors import VitrifyError as VitrifyError
    from vitrify.options import CompileOptions as CompileOptions
    from vitrify.options import OptLevel as OptLevel
    from vitrify.origin.rebuild import Rebuilt as Rebuilt
    from vitrify.origin.rebuild import rebuild as rebuild
    from vitrify.runtime.binding import IOBinding as IOBinding
    from vitrify.runtime.environment import disable_telemetry_events as disable_telemetry_events
    from vitrify.runtime.environment import enable_telemetry_events as enable_telemetry_events
    from vitrify.runtime.environment import get_all_providers as get_all_providers
    from vitrify.runtime.environment import get_available_providers as get_available_providers
    from vitrify.runtime.environment import get_build_info as get_build_info
    from vitrify.runtime.environment import get_device as get_device
    from vitrify.runtime.environment import get_ep_devices as get_ep_devices
    from vitrify.runtime.environment import get_version_string as get_version_string
    from vitrify.runtime.environment import has_collective_ops as has_collective_ops
    from vitrify.runtime.environment import set_default_logger_severity as set_default_logger_severity
    from vitrify.runtime.environment import set_default_logger_verbosity as set_default_logger_verbosity
    from vitrify.runtime.environment import set_global_thread_pool_sizes as set_global_thread_pool_sizes
    from vitrify.runtime.environment import set_seed as set_seed
    from vitrify.runtime.options import ExecutionMode as ExecutionMode
    from vitrify.runtime.options import ExecutionOrder as ExecutionOrder
    from vitrify.runtime.options import GraphOptimizationLevel as GraphOptimizationLevel
    from vitrify.runtime.options import SessionOptions as SessionOptions
    from vitrify.runtime.ort_value import OrtDevice as OrtDevice
    from vitrify.runtime.ort_value import OrtValue as OrtValue
    from vitrify.runtime.profile import KernelTime as KernelTime
    from vitrify.runtime.profile import Profile as Profile
    from vitrify.runtime.run_options import RunOptions as RunOptions
    from vitrify.runtime.session import ModelMetadata as ModelMetadata
    from vitrify.runtime.session import NodeArg as NodeArg
    from vitrify.sealed import Loaded as Loaded
    from vitrify.sealed import diff as diff
    from vitrify.sealed import inspect as inspect
    from vitrify.sealed import load as load
    from vitrify.sealed import pack as pack
    from vitrify.sealed import sign as sign
    from vitrify.sealed import verify as verify
    from vitrify.session import InferenceSession as InferenceSession
    from vitrify.session import from_onnx as from_onnx


def __getattr__(name: str) -> Any:
    if name == "trust":
        return import_module(f"{__name__}.trust")
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
