"""Vitrify against onnxruntime and OpenVINO: ``python -m bench``."""
