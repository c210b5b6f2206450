"""Optionals: decided at import where it is known whether there is an element."""

from __future__ import annotations

from vitrify.frontends.onnx.edges import kind_of_type
from vitrify.frontends.onnx.host import Held, HostValue, Maybe, inner_kind, kind_of
from vitrify.frontends.onnx.host_call import HostCall, boolean_tensor, host


@host("Optional", since=15, alone=True)
def optional(n: HostCall) -> Held:
    declared = n.attributes.type_proto("type")
    if not n.has(0):
        if declared is None:
            n.invalid("has neither an element nor a type")
        return Maybe(kind_of_type(declared), None)
    held = n.held(0)
    if declared is not None and kind_of_type(declared) != kind_of(held):
        n.invalid("the element has another type", expected=kind_of_type(declared), actual=kind_of(held))
    return Maybe(kind_of(held), held)


@host("OptionalHasElement", since=15, alone=True)
def has_element(n: HostCall) -> Held:
    if not n.has(0):
        return boolean_tensor(False)
    held = n.held(0)
    if isinstance(held, HostValue) and held.kind.startswith("optional("):
        (result,) = n.step("OptionalHasElement", [held], [("tensor(bool)", ())])
        return result
    return boolean_tensor(not isinstance(held, Maybe) or held.item is not None)


@host("OptionalGetElement", since=15, alone=True)
def get_element(n: HostCall) -> Held:
    held = n.held(0)
    if isinstance(held, Maybe):
        if held.item is None:
            n.invalid("takes the element of an optional that has none")
        return held.item
    if isinstance(held, HostValue) and held.kind.startswith("optional("):
        shape = None if held.shape is None else n.fresh(len(held.shape))
        declared = None if held.shape is None or shape is None else tuple(
            size if isinstance(size, int) else own for size, own in zip(held.shape, shape, strict=True)
        )
        (result,) = n.step("OptionalGetElement", [held], [(inner_kind(held.kind), declared)])
        return result
    return held
