"""``@op`` and ``@symbolic``: the rules, by op and opset.

A rule of :func:`op` gives the results as values (a decomposition over the builder). A rule of
:func:`symbolic` gives the contents of the result from the contents of all inputs, or None where it cannot;
it is tried first, and then no node is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Union

from vitrify.custom_ops import latest
from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx.body import Contents, Tensor
from vitrify.ir.graph import Value

if TYPE_CHECKING:
    from vitrify.frontends.onnx.call import Call

Result = Union[Tensor, Value, None]
Rule = Callable[["Call"], Union[Result, Sequence[Result]]]
SymbolicRule = Callable[..., Union[Contents, Sequence[Contents], Tensor, None]]


class Unsupported(Exception):
    """A rule met what it does not provide; the import goes on and reports it at the end."""


class Refusals:
    """How the rule of a node at ``source`` refuses it."""

    source: str

    def unsupported(self, message: str) -> NoReturn:
        raise Unsupported(message)

    def invalid(self, message: str, *, expected: object = None, actual: object = None) -> NoReturn:
        raise InvalidModelError(f"{self.source}: {message}", expected=expected, actual=actual)

    def check(self, condition: bool, message: str) -> None:
        if not condition:
            self.invalid(message)


_RULES: dict[tuple[str, str], list[tuple[int, Rule]]] = {}
_SYMBOLIC: dict[tuple[str, str], list[tuple[int, SymbolicRule]]] = {}


def op(*names: str, since: int = 1, domain: str = "") -> Callable[[Rule], Rule]:
    """Registers the decomposition of an op from opset ``since`` on, until a later row of it."""

    def register(rule: Rule) -> Rule:
        for name in names:
            rows = _RULES.setdefault((domain, name), [])
            rows.append((since, rule))
            rows.sort(key=lambda row: row[0])
        return rule

    return register


def symbolic(*names: str, since: int = 1, domain: str = "") -> Callable[[SymbolicRule], SymbolicRule]:
    """Registers what an op does to contents: ``rule(call, *contents)``, None for inputs left out."""

    def register(rule: SymbolicRule) -> SymbolicRule:
        for name in names:
            rows = _SYMBOLIC.setdefault((domain, name), [])
            rows.append((since, rule))
            rows.sort(key=lambda row: row[0])
        return rule

    return register


def rule_of(domain: str, name: str, opset: int) -> Rule | None:
    """The rule of an op that the user has registered, else ours."""
    own = latest(domain, name, opset)
    if own is not None:
        from vitrify.frontends.onnx.custom import call_registered  # which sees calls, which see this

        return partial(call_registered, own)
    rows = [rule for since, rule in _RULES.get((domain, name), ()) if since <= opset]
    return rows[-1] if rows else None


def symbolic_rule_of(domain: str, name: str, opset: int) -> SymbolicRule | None:
    rows = [rule for since, rule in _SYMBOLIC.get((domain, name), ()) if since <= opset]
    return rows[-1] if rows else None


def supported_ops() -> dict[tuple[str, str], int]:
    """(domain, op) of every rule, with the opset it starts at."""
    return {key: rows[0][0] for key, rows in _RULES.items()}
