"""Activations that exporters spell out become the functions they are."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.activations import ACTIVATIONS
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.movement import MOVEMENT


@dataclass(frozen=True)
class Activations:
    """Recognises sigmoid, silu, gelu (both forms), rsqrt, and normalisations that divide row by row. The
    results stay within the ulp bound of the function's row of the table."""

    name: str = "activations"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where none is found."""
        return rewrite(graph, [*ACTIVATIONS, *MOVEMENT, *FOLDING])
