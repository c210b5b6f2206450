"""The names of onnxruntime's native module that scripts import."""

from __future__ import annotations

from vitrify.errors import EngineError as EngineError
from vitrify.errors import EPFail as EPFail
from vitrify.errors import Fail as Fail
from vitrify.errors import InvalidArgument as InvalidArgument
from vitrify.errors import InvalidGraph as InvalidGraph
from vitrify.errors import InvalidProtobuf as InvalidProtobuf
from vitrify.errors import ModelLoadCanceled as ModelLoadCanceled
from vitrify.errors import ModelLoaded as ModelLoaded
from vitrify.errors import NoModel as NoModel
from vitrify.errors import NoSuchFile as NoSuchFile
from vitrify.errors import NotImplemented as NotImplemented
from vitrify.errors import RuntimeException as RuntimeException
from vitrify.runtime.environment import get_all_providers as get_all_providers
from vitrify.runtime.environment import get_available_providers as get_available_providers
from vitrify.runtime.environment import get_build_info as get_build_info
from vitrify.runtime.environment import get_device as get_device
from vitrify.runtime.environment import get_version_string as get_version_string
from vitrify.runtime.environment import set_default_logger_severity as set_default_logger_severity
from vitrify.runtime.environment import set_default_logger_verbosity as set_default_logger_verbosity
from vitrify.runtime.environment import set_seed as set_seed
from vitrify.runtime.options import ExecutionMode as ExecutionMode
from vitrify.runtime.options import ExecutionOrder as ExecutionOrder
from vitrify.runtime.options import GraphOptimizationLevel as GraphOptimizationLevel
from vitrify.runtime.options import SessionOptions as SessionOptions
from vitrify.runtime.ort_value import OrtDevice as OrtDevice
from vitrify.runtime.ort_value import OrtValue as OrtValue
from vitrify.runtime.run_options import RunOptions as RunOptions
from vitrify.runtime.session import ModelMetadata as ModelMetadata
from vitrify.runtime.session import NodeArg as NodeArg
from vitrify.session import InferenceSession as InferenceSession
