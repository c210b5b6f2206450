"""Typed access to a node's attributes. What no rule reads is refused: its meaning would be lost."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import AttributeProto

from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.arrays import Array, ArrayReader, UnsupportedDType
from vitrify.frontends.onnx.registry import Unsupported

_KIND = {v: k for k, v in AttributeProto.AttributeType.items()}


class Attributes:
    def __init__(self, protos: dict[str, AttributeProto], reader: ArrayReader, source: str) -> None:
        self._protos = protos
        self._reader = reader
        self._source = source
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._protos

    def unread(self) -> list[str]:
        return sorted(str(name) for name in set(self._protos) - self._read)

    def ignore(self, *names: str) -> None:
        """Attributes that have no effect on the results."""
        self._read.update(names)

    def _get(self, name: str, kind: AttributeProto.AttributeType) -> AttributeProto | None:
        self._read.add(name)
        proto = self._protos.get(name)
        if proto is not None and proto.type != kind:
            raise InvalidModelError(
                f"{self._source}: attribute {name!r} has the wrong type",
                expected=_KIND[kind],
                actual=_KIND.get(proto.type, proto.type),
            )
        return proto

    def _missing(self, name: str) -> InvalidModelError:
        return InvalidModelError(f"{self._source}: attribute {name!r} is missing")

    def integer(self, name: str, default: int | None = None) -> int:
        proto = self._get(name, AttributeProto.INT)
        if proto is None:
            if default is None:
                raise self._missing(name)
            return default
        return int(proto.i)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.integer(name, int(default))
        if value not in (0, 1):
            raise InvalidModelError(
                f"{self._source}: attribute {name!r} is out of range", expected="0 or 1", actual=value
            )
        return bool(value)

    def number(self, name: str, default: float | None = None) -> float:
        proto = self._get(name, AttributeProto.FLOAT)
        if proto is None:
            if default is None:
                raise self._missing(name)
            return default
        return float(proto.f)

    def text(self, name: str, default: str) -> str:
        proto = self._get(name, AttributeProto.STRING)
        return default if proto is None else proto.s.decode("utf-8", "replace")

    def integers(self, name: str) -> list[int] | None:
        proto = self._get(name, AttributeProto.INTS)
        return None if proto is None else [int(i) for i in proto.ints]

    def numbers(self, name: str) -> list[float] | None:
        proto = self._get(name, AttributeProto.FLOATS)
        return None if proto is None else [float(f) for f in proto.floats]

    def texts(self, name: str) -> list[str] | None:
        proto = self._get(name, AttributeProto.STRINGS)
        return None if proto is None else [s.decode("utf-8", "replace") for s in proto.strings]

    def tensor(self, name: str) -> Array | None:
        proto = self._get(name, AttributeProto.TENSOR)
        if proto is None:
            return None
        try:
            return self._reader.read(proto.t)
        except UnsupportedDType as error:
            raise Unsupported(f"attribute {name!r}: {error}") from None

    def raw_tensor(self, name: str) -> onnx.TensorProto | None:
        """As it is in the model; of strings."""
        proto = self._get(name, AttributeProto.TENSOR)
        return None if proto is None else proto.t

    def type_proto(self, name: str) -> onnx.TypeProto | None:
        proto = self._get(name, AttributeProto.TYPE_PROTO)
        return None if proto is None else proto.tp

    def graph(self, name: str) -> onnx.GraphProto:
        proto = self._get(name, AttributeProto.GRAPH)
        if proto is None:
            raise self._missing(name)
        return proto.g

    def refuse(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._protos:
                raise Unsupported(f"attribute {name!r}")
