"""The digest of a Python function: of its code, not of its place in memory, so that it holds between processes."""

from __future__ import annotations

import hashlib
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis))


def code_digest(function: Any) -> str:
    """SHA-256 of bytecode and constants, of defaults, of closed-over values, and of what the code names in its own
    module: functions and plain values. Anything else counts by its type. Another Python gives another digest."""
    digest = hashlib.sha256()
    for part in _parts(function, set()):
        digest.update(f"{len(part)}:{part}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _parts(value: Any, seen: set[int]) -> list[str]:
    if isinstance(value, _PLAIN):
        return [repr(value)]
    if isinstance(value, np.ndarray):
        return [value.dtype.name, str(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, tuple):
        return ["(", *(part for item in value for part in _parts(item, seen)), ")"]
    if isinstance(value, (frozenset, set)):
        return ["{", *sorted("".join(_parts(item, seen)) for item in value), "}"]
    if id(value) in seen:
        return ["again"]
    seen.add(id(value))
    if isinstance(value, FunctionType):
        return _function(value, seen)
    if isinstance(value, CodeType):
        return _code(value, seen)
    if isinstance(value, MethodType):
        return [*_parts(value.__func__, seen), *_parts(value.__self__, seen)]
    if isinstance(value, partial):
        return ["partial", *_parts(value.func, seen), *_parts(value.args, seen), *_parts(value.keywords, seen)]
    if isinstance(value, list):
        return ["[", *(part for item in value for part in _parts(item, seen)), "]"]
    if isinstance(value, dict):
        return ["{", *(part for pair in value.items() for item in pair for part in _parts(item, seen)), "}"]
    if isinstance(value, (type, BuiltinFunctionType, np.ufunc)):
        return [f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"]
    call = vars(type(value)).get("__call__")
    return [type(value).__qualname__, *(_parts(call, seen) if isinstance(call, FunctionType) else [])]


def _function(function: FunctionType, seen: set[int]) -> list[str]:
    parts = _code(function.__code__, seen)
    parts += [*_parts(function.__defaults__, seen), *_parts(function.__kwdefaults__, seen)]
    for cell in function.__closure__ or ():
        try:
            parts += _parts(cell.cell_contents, seen)
        except ValueError:  # not assigned yet
            parts.append("empty")
    for name in _names(function.__code__):
        found = function.__globals__.get(name)
        own = isinstance(found, FunctionType) and found.__module__ == function.__module__
        if own or (name in function.__globals__ and isinstance(found, (*_PLAIN, tuple, np.ndarray))):
            parts += [name, *_parts(found, seen)]
    return parts


def _names(code: CodeType) -> list[str]:
    inner = [name for c in code.co_consts if isinstance(c, CodeType) for name in _names(c)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _code(code: CodeType, seen: set[int]) -> list[str]:
    constants = [part for c in code.co_consts for part in _parts(c, seen)]
    return [code.co_code.hex(), *code.co_names, *code.co_varnames, *constants]
