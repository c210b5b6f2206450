"""The same names under onnxruntime's other path."""

from __future__ import annotations

from vitrify.capi.onnxruntime_pybind11_state import *  # noqa: F403
