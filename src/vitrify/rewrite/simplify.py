"""Simplification: what is exact and never costs anything."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.arithmetic import ARITHMETIC
from vitrify.rewrite.rules.control import CONTROL
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.movement import MOVEMENT

SIMPLIFICATIONS = [*CONTROL, *MOVEMENT, *ARITHMETIC, *FOLDING]


@dataclass(frozen=True)
class Simplify:
    """Movement, arithmetic and control flow that cancel, and the constants that appear so."""

    name: str = "simplify"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where nothing applies."""
        return rewrite(graph, SIMPLIFICATIONS)
