"""Instructions that no C operator expresses, by the name Loop IR knows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitrify.codegen.c.types import register
from vitrify.lower.loop import VType


@dataclass(frozen=True)
class IntrinsicRow:
    """``text(result, arguments)`` is a format string with ``{0}``, ``{1}`` … for the arguments; ``feature``
    is the target's extension that it needs."""

    feature: str
    text: Callable[[VType, tuple[VType, ...]], str]


INTRINSICS: dict[str, IntrinsicRow] = {}


def intrinsic(name: str, feature: str, text: str) -> None:
    """Adds a row whose text does not depend on the types."""
    INTRINSICS[name] = IntrinsicRow(feature, lambda result, arguments: text)


# Two products of bf16 per lane, added to f32: the operands hold a pair in 32 bits.
INTRINSICS["dpbf16"] = IntrinsicRow(
    "bf16",
    lambda result, arguments: (
        f"({register(result)})__builtin_ia32_dpbf16ps_{32 * result.lanes}(({{0}}), "
        f"(__bf16 __attribute__((vector_size({4 * result.lanes}))))({{1}}), "
        f"(__bf16 __attribute__((vector_size({4 * result.lanes}))))({{2}}))"
    ),
)


def _words(result: VType, element: str, argument: int) -> str:
    """An argument whose lanes hold several elements, as a vector of these."""
    return f"({element} __attribute__((vector_size({4 * result.lanes}))))({{{argument}}})"


def _bytes(result: VType, first: int, second: int) -> str:
    total, a, b = (_words(result, "int", i) for i in (0, first, second))
    return f"({register(result)})__builtin_ia32_vpdpbusd{32 * result.lanes}({total}, {a}, {b})"


def _shorts(result: VType) -> str:
    a, b = (_words(result, "short", i) for i in (1, 2))
    return f"({{0}} + ({register(result)})__builtin_ia32_pmaddwd{32 * result.lanes}({a}, {b}))"


# Four products of bytes per lane, added to i32: of u8 with i8, and of i8 with u8.
INTRINSICS["dpbusd"] = IntrinsicRow("vnni", lambda result, arguments: _bytes(result, 1, 2))
INTRINSICS["dpbsud"] = IntrinsicRow("vnni", lambda result, arguments: _bytes(result, 2, 1))
# Two products of i16 per lane, added to i32 modulo 2^32; every x86-64.
INTRINSICS["dpwssd"] = IntrinsicRow("", lambda result, arguments: _shorts(result))
# Rounded to nearest even; unlike the cast, subnormals give 0.
INTRINSICS["round_bf16"] = IntrinsicRow(
    "bf16",
    lambda result, arguments: (
        f"({register(result)})__builtin_convertvector({{0}}, "
        f"__bf16 __attribute__((vector_size({2 * result.lanes}))))"
    ),
)
