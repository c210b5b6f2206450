"""ONNX models to the tensor graph, in the order data flows.

===========  =====================================================================================
load         a path, bytes or ``ModelProto`` to a checked ``ModelProto`` and the place of its data
arrays       tensors of the file to NumPy arrays, external data mapped and never copied
order        the nodes of a graph in an order in which they can be imported
importer     the walk: scopes, opsets, everything unsupported reported at once
symbols      named dims, what a run must find equal, and the choices that types force
contents     what small integer tensors hold, as symbolic integers
schema       what ONNX itself says of an op: inputs, outputs, types
registry     ``@op`` and ``@symbolic``, and what a rule sees of its node
ops          one decomposition per op
===========  =====================================================================================
"""

from vitrify.frontends.onnx.importer import ImportedModel, import_onnx, load_onnx
from vitrify.frontends.onnx.metadata import Metadata, model_metadata

__all__ = ["ImportedModel", "Metadata", "import_onnx", "load_onnx", "model_metadata"]
