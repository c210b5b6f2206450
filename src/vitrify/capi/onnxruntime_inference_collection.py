"""The classes of onnxruntime's Python layer that scripts import."""

from __future__ import annotations

from vitrify.runtime.binding import IOBinding as IOBinding
from vitrify.runtime.ort_value import OrtDevice as OrtDevice
from vitrify.runtime.ort_value import OrtValue as OrtValue
from vitrify.runtime.session import Session as Session
from vitrify.session import InferenceSession as InferenceSession
