"""Ops that a caller gives: what they compute in Python, a rule for types, and C where they have it.

Defining an op registers it for the process. The compiler and the runtime both look ops up here, so this imports
neither of them.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import re
from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import GenericAlias
from typing import Any, NamedTuple, overload

import numpy as np

from vitrify.artifact.dtypes import DTYPES
from vitrify.code_digest import code_digest
from vitrify.errors import ArgumentTypeError, CustomOpError, InvalidArgumentError
from vitrify.runtime.feed import native_dtype

Array = np.ndarray[Any, Any]
Reference = Callable[..., Any]
Rule = Callable[..., Any]
Declared = Mapping[str, Any]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = re.compile(r"(ai\.onnx(\..*)?)?")  # "" is ai.onnx
_KINDS: list[tuple[Any, str]] = [
    (int, "int"), (float, "float"), (str, "string"), (list[int], "ints"), (list[float], "floats"),
    (list[str], "strings"), (np.ndarray, "tensor"),
]  # fmt: skip
_BY_NUMPY_NAME = {row.extension or row.carrier: row for row in DTYPES}


class TensorSpec(NamedTuple):
    """A tensor's type: what a rule is given for each input, and gives for each output.

    ``dtype`` is a NumPy dtype (of ml_dtypes for types that NumPy lacks); a rule may give anything that
    ``numpy.dtype`` takes. ``shape`` has integers and symbolic dims, which add, subtract, multiply and divide
    (``//``, ``%``). ``value`` is an input's array where it is a constant of the model, else None.
    """

    dtype: Any
    shape: tuple[Any, ...]
    value: Any = None


@dataclass(frozen=True)
class Attribute:
    """``default`` is None for one that every node must have."""

    kind: str  # int, float, string, ints, floats, strings, tensor
    default: Any = None


@dataclass(frozen=True, eq=False)
class CustomOp:
    """An op as :func:`custom_op` defines it; calling it calls the reference."""

    domain: str
    name: str
    version: int
    reference: Reference
    infer: Rule
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    c_source: str = ""
    c_file: str = ""
    pure: bool = True

    @property
    def label(self) -> str:
        """``domain::name``."""
        return f"{self.domain}::{self.name}"

    @property
    def module(self) -> str:
        """The Python module of the reference: importing it registers the op, as a rule."""
        return str(getattr(self.reference, "__module__", "") or "")

    @property
    def digest(self) -> str:
        """Of what a compiled model relies on: identity, parameters, attributes. 64 hexadecimal digits."""
        attributes = {n: [a.kind, attribute_text({n: a.default})] for n, a in self.attributes.items()}
        stated = [self.domain, self.name, self.version, _parameters(self.reference), attributes, self.pure]
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """Of the digest, the C source and the Python code of reference and rule: what a compile depends on."""
        parts = [self.digest, self.c_source, code_digest(self.reference), code_digest(self.infer)]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    def __call__(self, *arguments: Any, **attributes: Any) -> Any:
        return self.reference(*arguments, **attributes)

    def evaluate(self, arguments: Sequence[Array | None], attributes: str, count: int) -> list[Array]:
        """What the reference gives for ``arguments`` (its own from here on) and attributes as
        :func:`attribute_text` writes them. Raises CustomOpError for other than ``count`` arrays, and what the
        reference raises."""
        found = self.reference(*arguments, **read_attributes(attributes))
        results = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(results) != count or not all(isinstance(r, (np.ndarray, np.generic)) for r in results):
            raise CustomOpError(
                f"the reference of {self.label} (version {self.version})",
                expected="an array" if count == 1 else f"a tuple of {count} arrays",
                actual=", ".join(type(r).__name__ for r in results) or "nothing",
            )
        return [np.asarray(r) for r in results]

    def unregister(self) -> None:
        """The process does not know the op any more; sessions that use it go on."""
        global _ops  # noqa: PLW0603  (replaced as a whole, so that readers need no lock)
        with _lock:
            _ops = {key: op for key, op in _ops.items() if key != (self.domain, self.name, self.version)}


_lock = allocate_lock()
_ops: dict[tuple[str, str, int], CustomOp] = {}


@overload
def custom_op(
    domain: str, name: str, version: int = 1, *, infer: Rule, reference: Reference,
    attributes: Declared | None = None, c_source: str | Path | None = None, pure: bool = True,
) -> CustomOp: ...  # fmt: skip


@overload
def custom_op(
    domain: str, name: str, version: int = 1, *, infer: Rule, reference: None = None,
    attributes: Declared | None = None, c_source: str | Path | None = None, pure: bool = True,
) -> Callable[[Reference], CustomOp]: ...  # fmt: skip


def custom_op(
    domain: str, name: str, version: int = 1, *, infer: Rule, reference: Reference | None = None,
    attributes: Declared | None = None, c_source: str | Path | None = None, pure: bool = True,
) -> CustomOp | Callable[[Reference], CustomOp]:  # fmt: skip
    """Defines and registers an op; without ``reference`` a decorator of it.

    - ``domain``, ``name``: as nodes of a model name the op. A node takes the latest ``version`` that is not
      above the version of the domain that its model imports.
    - ``reference(*inputs, **attributes)``: NumPy arrays of the op's inputs (None for one left out), which it may
      keep and change; gives an array, or a tuple of them.
    - ``infer(*inputs, **attributes)``: a :class:`TensorSpec` for each input (None for one left out); gives one
      for each output. What it raises refuses the model.
    - ``attributes``: by name a default, or a type (int, float, str, list[int], list[float], list[str],
      numpy.ndarray) where every node must have the attribute.
    - ``c_source``: C text, or a path to it, that defines the function ``name``: it is compiled into the model in
      the reference's place. docs/custom-ops.md has its signature.
    - ``pure``: results depend on inputs and attributes alone, and computing them has no other effect. Equal calls
      are then made once, unused ones never, and those of constants when compiling.

    Raises InvalidArgumentError for ill-formed arguments, and where another op of this name and version is
    registered.
    """
    if reference is None:
        return lambda function: custom_op(
            domain, name, version, infer=infer, reference=function, attributes=attributes, c_source=c_source, pure=pure
        )
    _check_name(domain, name, version)
    if not callable(reference) or not callable(infer):
        raise ArgumentTypeError(f"custom op {domain}::{name}", expected="callables as reference and infer")
    text, file = _source(domain, name, c_source)
    declared = {key: _attribute(key, value) for key, value in (attributes or {}).items()}
    op = CustomOp(domain, name, version, reference, infer, declared, text, file, bool(pure))
    _register(op)
    return op


def _register(op: CustomOp) -> None:
    global _ops  # noqa: PLW0603
    key = (op.domain, op.name, op.version)
    with _lock:
        known = _ops.get(key)
        if known is not None and known.identity != op.identity:
            raise InvalidArgumentError(
                f"custom op {op.label} (version {op.version}) is registered already, as another one",
                hint="give the new one a higher version, or call unregister() of the first",
            )
        _ops = {**_ops, key: op}


def registered(domain: str, name: str, version: int) -> CustomOp | None:
    """The op of exactly this version."""
    return _ops.get((domain, name, version))


def latest(domain: str, name: str, opset: int) -> CustomOp | None:
    """The op for a node of a model that imports version ``opset`` of the domain."""
    known = [op for (d, n, version), op in _ops.items() if (d, n) == (domain, name) and version <= opset]
    return max(known, key=lambda op: op.version, default=None)


def known_domains() -> set[str]:
    """The domains of all registered ops."""
    return {op.domain for op in _ops.values()}


def identities(domains: Sequence[str]) -> list[tuple[str, int, str]]:
    """Label, version and identity of every registered op of these domains, in order."""
    return sorted((op.label, op.version, op.identity) for op in _ops.values() if op.domain in domains)


# ---- attributes


def attribute_text(values: Mapping[str, Any]) -> str:
    """Attributes in the one text that stands for them: JSON, arrays by dtype, dims and bytes."""
    return json.dumps({name: _encoded(value) for name, value in values.items()}, sort_keys=True)


def read_attributes(text: str) -> dict[str, Any]:
    """What :func:`attribute_text` wrote. ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("attributes are no JSON object")
    return {str(name): _decoded(value) for name, value in found.items()}


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"dtype": value.dtype.name, "dims": list(value.shape), "data": data}
    return list(value) if isinstance(value, tuple) else value


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if list(value) != ["data", "dims", "dtype"] or value["dtype"] not in _BY_NUMPY_NAME:
        raise ValueError(f"no array: {sorted(map(str, value))}")
    dtype = native_dtype(_BY_NUMPY_NAME[value["dtype"]])
    data = base64.b64decode(value["data"], validate=True)
    return np.frombuffer(data, dtype).reshape(value["dims"]).copy()


def _attribute(name: str, stated: Any) -> Attribute:
    if not _IDENTIFIER.fullmatch(name):
        raise InvalidArgumentError(f"attribute {name!r} of a custom op", expected="an identifier")
    if isinstance(stated, (type, GenericAlias)):
        for kind, text in _KINDS:
            if stated == kind:
                return Attribute(text)
    return Attribute(*_kind_of(name, stated))


def _kind_of(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, np.ndarray) and value.dtype.name in _BY_NUMPY_NAME:
        return "tensor", value.copy()
    for kind, text in _KINDS[:3]:
        if isinstance(value, kind):
            return text, kind(value)
        if isinstance(value, (list, tuple)) and value and all(isinstance(v, kind) for v in value):
            return f"{text}s", [kind(v) for v in value]
    raise InvalidArgumentError(
        f"attribute {name!r} of a custom op", actual=repr(value)[:80],
        expected="int, float, str, list[int], list[float], list[str], numpy.ndarray, or a default of one of these",
    )  # fmt: skip


# ---- checks


def _check_name(domain: object, name: object, version: object) -> None:
    if not isinstance(domain, str) or _RESERVED.fullmatch(domain) or "::" in domain or not domain.isprintable():
        raise InvalidArgumentError("domain of a custom op", expected="one that is not ai.onnx's", actual=repr(domain))
    if not isinstance(name, str) or not _IDENTIFIER.fullmatch(name):
        raise InvalidArgumentError("name of a custom op", expected="an identifier", actual=repr(name))
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 1 << 31:
        raise InvalidArgumentError("version of a custom op", expected="an integer from 1", actual=repr(version))


def _source(domain: str, name: str, given: str | Path | None) -> tuple[str, str]:
    """The C text, and what its diagnostics call it."""
    if given is None:
        return "", ""
    if isinstance(given, Path):
        try:
            return given.read_text(encoding="utf-8"), given.name
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgumentError(f"C source of custom op {domain}::{name}", actual=str(error)) from None
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise InvalidArgumentError(
            f"C source of custom op {domain}::{name}", expected="C text, or a pathlib.Path", actual=repr(given)[:80]
        )
    return given, f"{domain}::{name}"


def _parameters(function: Reference) -> list[str]:
    try:
        return [f"{p.kind.name} {p.name}" for p in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):  # a builtin that does not say
        return []
