"""The names that nodes see, and what a node's own fields say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.host import Held
from vitrify.frontends.onnx.order import source_of

Names = dict[str, Held | None]  # None: the result of something unsupported


@dataclass
class Scope:
    """The names visible to a graph's nodes, and what its attributes refer to inside a function."""

    names: Names
    parent: Scope | None
    opsets: Mapping[str, int]
    references: Mapping[str, AttributeProto]
    depth: int = 0

    def visible(self) -> set[str]:
        return set(self.names) | (self.parent.visible() if self.parent else set())

    def lookup(self, name: str) -> Held | None:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        raise InvalidModelError(f"the name {name!r} is not defined where it is used")


@dataclass(frozen=True)
class Site:
    """A node and the place where it is imported."""

    node: onnx.NodeProto
    domain: str
    opset: int
    scope: Scope
    body: Body
    path: str
    source: str


def node_attributes(node: onnx.NodeProto, scope: Scope) -> dict[str, AttributeProto]:
    """The node's attributes, those that refer to a function's replaced by what the caller gave."""
    result: dict[str, AttributeProto] = {}
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidModelError(f"{source_of(node)}: attributes are given twice: {', '.join(map(repr, twice))}")
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            result[attribute.name] = attribute
        elif attribute.ref_attr_name in scope.references:
            result[attribute.name] = scope.references[attribute.ref_attr_name]
    return result
