"""Constant folding: exact, except that reductions and contractions of constants accumulate in f64."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.folding import FOLDING


@dataclass(frozen=True)
class FoldConstants:
    """What only depends on constants becomes one; sizes stay symbolic; known choices are made."""

    name: str = "fold-constants"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where nothing folds."""
        return rewrite(graph, FOLDING)
