"""Where scripts import onnxruntime's classes from besides the package itself."""
