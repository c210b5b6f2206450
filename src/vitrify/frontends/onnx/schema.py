"""What ONNX itself says of an op: how many inputs and outputs, and of which types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import onnx
from onnx.defs import OpSchema

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.host import Held, kind_of


@dataclass(frozen=True)
class Formal:
    """A formal parameter. ``variable`` names the types that must agree, None where they need not."""

    required: bool
    variadic: bool
    types: frozenset[str]
    variable: str | None


@dataclass(frozen=True)
class Signature:
    inputs: tuple[Formal, ...]
    least_inputs: int
    most_inputs: int
    least_outputs: int
    most_outputs: int


@lru_cache(maxsize=4096)
def signature_of(domain: str, name: str, opset: int) -> Signature | None:
    """None where ONNX does not define the op at this opset."""
    if opset >= 1 << 31:  # which the function below has no type for
        return None
    try:
        schema = onnx.defs.get_schema(name, opset, domain)
    except onnx.defs.SchemaError:
        return None
    inputs = tuple(_formal(parameter) for parameter in schema.inputs)
    return Signature(inputs, schema.min_input, schema.max_input, schema.min_output, schema.max_output)


def _formal(parameter: OpSchema.FormalParameter) -> Formal:
    option = OpSchema.FormalParameterOption
    alike = parameter.option != option.Variadic or parameter.is_homogeneous
    return Formal(
        required=parameter.option == option.Single,
        variadic=parameter.option == option.Variadic,
        types=frozenset(parameter.types),
        variable=parameter.type_str if alike else None,
    )


def check_node(signature: Signature, inputs: Sequence[Held | None], outputs: Sequence[str], source: str) -> None:
    """Raises :class:`InvalidModelError` where a node does not fit its op."""
    given = len(inputs)
    if not signature.least_inputs <= given <= signature.most_inputs:
        missing = next((i for i, formal in enumerate(signature.inputs) if i >= given and formal.required), None)
        what = f"input {missing} is missing" if missing is not None else "has the wrong number of inputs"
        expected = f"{signature.least_inputs} to {signature.most_inputs}"
        raise InvalidModelError(f"{source}: {what}", expected=expected, actual=given)
    if not signature.least_outputs <= len(outputs) <= signature.most_outputs:
        few = len(outputs) < signature.least_outputs
        expected = f"{signature.least_outputs} to {signature.most_outputs}"
        raise InvalidModelError(
            f"{source} has too {'few' if few else 'many'} outputs", expected=expected, actual=len(outputs)
        )
    variables: dict[str, str] = {}
    for index, tensor in enumerate(inputs):
        formal = signature.inputs[min(index, len(signature.inputs) - 1)]
        if tensor is None:
            if formal.required or (formal.variadic and formal.variable is not None):
                raise InvalidModelError(f"{source}: input {index} is missing")
            continue
        _check_type(formal, kind_of(tensor), index, variables, source)


def _check_type(formal: Formal, kind: str, index: int, variables: dict[str, str], source: str) -> None:
    if kind not in formal.types:
        tensors = sorted(t for t in formal.types if t.startswith("tensor("))
        allowed = ", ".join(tensors or sorted(formal.types))
        raise InvalidModelError(f"{source}: input {index} has the wrong type", expected=allowed, actual=kind)
    if formal.variable is None or formal.variable in formal.types:  # a type of its own, not a variable
        return
    before = variables.setdefault(formal.variable, kind)
    if before != kind:
        raise InvalidModelError(f"{source}: the inputs' types differ", expected=before, actual=kind)
