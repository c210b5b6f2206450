"""Compile options: what is refused, and what tells two compiles apart."""

from __future__ import annotations

from typing import Any

import pytest

from vitrify.errors import InvalidArgumentError
from vitrify.options import CPU_FEATURES, CompileOptions, OptLevel, compile_options
from vitrify.runtime.cpu import detect, request_amx, supported_targets


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": ("z80",)}, "option targets; expected x86-64-v3"),
        ({"targets": ("x86-64-v3+bf16",)}, r"expected x86-64-v4 with \+"),
        ({"targets": ("x86-64-v4+sve",)}, r"got 'x86-64-v4\+sve'"),
        ({"targets": (7,)}, "option targets"),
        ({"optimization_level": 4}, "expected one of NONE = 0"),
        ({"optimization_level": True}, "option optimization_level"),
        ({"accurate": 1}, "option accurate; expected True or False; got 1"),
        ({"input_shapes": {"x": "12"}}, r"option input_shapes\['x'\]"),
        ({"input_shapes": {"x": (-1,)}}, r"got \(-1,\)"),
        ({"input_shapes": [1]}, "dims by the inputs' names"),
        ({"dim_overrides": {"n": True}}, "numbers by the dims' names"),
        ({"fast": True}, "unknown option; expected one of targets"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        compile_options(None, given)


def test_options_twice() -> None:
    with pytest.raises(InvalidArgumentError, match="given twice"):
        compile_options(CompileOptions(), {"accurate": True})
    with pytest.raises(InvalidArgumentError, match="expected CompileOptions"):
        compile_options("all", {})  # type: ignore[arg-type]


def test_levels_and_targets_are_normalised() -> None:
    options = CompileOptions(optimization_level=1, targets="x86-64-v3")  # type: ignore[arg-type]
    assert options.optimization_level is OptLevel.BASIC and options.targets == ("x86-64-v3",)


def test_targets_of_this_machine() -> None:
    best = supported_targets(detect())[0]
    dots = best == "x86-64-v4" and CPU_FEATURES["vnni"] <= detect().features
    tiles = dots and CPU_FEATURES["amx-int8"] <= detect().features and request_amx()
    expected = "+".join([best, *(["vnni"] if dots else []), *(["amx-int8"] if tiles else [])])
    assert CompileOptions().resolved_targets() == (expected,)
    (name,) = CompileOptions(bf16=True).resolved_targets()
    extensions = name.split("+")[1:]
    assert name.startswith(best) and all(CPU_FEATURES[e] <= detect().features for e in extensions)
    assert CompileOptions(targets=("aarch64",)).resolved_targets() == ("aarch64",)


def test_identity_tells_options_apart() -> None:
    variants = [
        CompileOptions(),
        CompileOptions(accurate=True),
        CompileOptions(bf16=True),
        CompileOptions(optimization_level=OptLevel.NONE),
        CompileOptions(targets=("aarch64",)),
        CompileOptions(input_shapes={"x": (1, "n")}),
        CompileOptions(dim_overrides={"n": 2}),
    ]
    assert len({v.identity() for v in variants}) == len(variants)
    assert CompileOptions(input_shapes={"a": [1], "b": [2]}).identity() == (
        CompileOptions(input_shapes={"b": (2,), "a": (1,)}).identity()
    )
