"""Einsum in its forms against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.agreement import agree, fed, node_model
from tests.frontends.onnx.models import run
from vitrify.errors import InvalidModelError

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


def operands(*shapes: Shape, dtype: Any = np.float32) -> dict[str, Array | None]:
    random = np.random.default_rng(0)
    return {f"x{i}": np.asarray(random.standard_normal(s) * 4).astype(dtype) for i, s in enumerate(shapes)}


EQUATIONS: list[tuple[str, tuple[Shape, ...]]] = [
    ("ij->ji", ((3, 4),)),
    ("ij", ((3, 4),)),
    ("ba", ((3, 4),)),
    ("ij->", ((3, 4),)),
    ("ii->i", ((4, 4),)),
    ("ii", ((4, 4),)),
    ("iij->ij", ((4, 4, 3),)),
    ("iji->j", ((4, 3, 4),)),
    ("iii->i", ((3, 3, 3),)),
    ("ijij->ji", ((3, 2, 3, 2),)),
    ("...ii->...i", ((2, 3, 4, 4),)),
    ("...->...", ((2, 3),)),
    ("...i->i...", ((2, 3, 4),)),
    ("i...->...", ((2, 3, 4),)),
    ("i...", ((2, 3, 4),)),
    (",ij->ij", ((), (2, 3))),
    (",->", ((), ())),
    ("->", ((),)),
    ("ij,jk->ik", ((3, 4), (4, 5))),
    ("ij,jk", ((3, 4), (4, 5))),
    ("ij,kj->ki", ((3, 4), (5, 4))),
    ("i,j->ij", ((3,), (4,))),
    ("i,i->", ((5,), (5,))),
    ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))),
    ("...ij,...jk->...ik", ((2, 1, 3, 4), (6, 4, 5))),
    ("...ij,...jk", ((3, 4), (2, 4, 5))),
    ("...,...->...", ((2, 3), (3,))),
    ("i...,i...->...", ((2, 3), (2, 1))),
    ("ij,kl->il", ((3, 4), (5, 6))),
    ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 5))),
    ("a,b,c->cab", ((2,), (3,), (4,))),
    ("ij,ij,ij->i", ((3, 4), (3, 4), (3, 4))),
    ("iij,jk->ik", ((3, 3, 4), (4, 2))),
    ("ij,jk->ik", ((0, 4), (4, 5))),
    ("ij,jk->ik", ((3, 0), (0, 5))),
    ("aB,Bc->ac", ((2, 3), (3, 4))),
    (" i j , j k -> i k ", ((2, 3), (3, 4))),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_forms(equation: str, shapes: tuple[Shape, ...]) -> None:
    feeds = operands(*shapes)
    expected = np.einsum(equation.replace(" ", ""), *fed(feeds).values())
    agree(node_model("Einsum", feeds, equation=equation), feeds, expected=[np.asarray(expected, np.float32)])


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
def test_dtypes(dtype: Any) -> None:
    feeds = operands((3, 3, 4), (4, 2), dtype=dtype)
    expected = np.einsum("iij,jk->ki", *fed(feeds).values())
    agree(node_model("Einsum", feeds, equation="iij,jk->ki"), feeds, expected=[expected])


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk->ik", ((3, 4),), "for 1 inputs"),
        ("ijk->i", ((3, 4),), "ranks differ"),
        ("ij...k->i", ((3, 4),), "ranks differ"),
        ("ij->ik", ((3, 4),), "no input has"),
        ("ij->ii", ((3, 3),), "twice"),
        ("ij,jk->ik", ((3, 4), (5, 2)), "sizes differ"),
        ("ii->i", ((3, 4),), "sizes differ"),
        ("i.j->i", ((3, 4),), "letters"),
        ("i1->i", ((3, 4),), "letters"),
        ("ij->...i", ((3, 4),), None),
    ],
)
def test_bad_equations(equation: str, shapes: tuple[Shape, ...], message: str | None) -> None:
    feeds = operands(*shapes)
    model = node_model("Einsum", feeds, equation=equation)
    if message is None:
        assert run(model, fed(feeds))[0].shape == (3,)
        return
    with pytest.raises(InvalidModelError, match=message):
        run(model, fed(feeds))
