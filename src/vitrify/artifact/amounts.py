"""Amounts in a manifest: numbers, or integer expressions over the model's named dims."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

from ..errors import ArtifactError, InvalidArgumentError
from .manifest import Amount

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., int]] = {"min": min, "max": max, "abs": abs}
_MAX_LENGTH = 1 << 16
_MOST = 1 << 128


def evaluate(amount: Amount, dims: Mapping[str, int]) -> int:
    """The number. Raises InvalidArgumentError for a dim that is not given, ArtifactError for a text that is
    no expression."""
    if isinstance(amount, int):
        return amount
    try:
        if len(amount) > _MAX_LENGTH:
            raise ValueError
        found = _value(ast.parse(amount, mode="eval").body, dims)
        if abs(found) > _MOST:
            raise ValueError
        return found
    except InvalidArgumentError:
        raise  # it is a ValueError too
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, ZeroDivisionError):
        shown = amount if len(amount) <= 80 else amount[:77] + "..."
        raise ArtifactError("not an amount", expected="an integer expression", actual=repr(shown)) from None


def _value(node: ast.expr, dims: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            if name not in dims:
                raise InvalidArgumentError(f"the dim {name!r} is not given", expected="a number for it")
            return dims[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, dims)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, dims), _value(right, dims))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and args:
            return _FUNCTIONS[name](*(_value(a, dims) for a in args))
    raise ValueError


def names(amount: Amount) -> set[str]:
    """The dims an amount depends on."""
    if isinstance(amount, int):
        return set()
    try:
        tree = ast.parse(amount, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} - _FUNCTIONS.keys()
