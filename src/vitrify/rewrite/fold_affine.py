"""Affine folding: a normalisation after a convolution costs nothing but its shift."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.affine import AFFINE
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.movement import MOVEMENT


@dataclass(frozen=True)
class FoldAffine:
    """Scales by constants go into the weights before them, shifts into one; see :mod:`.rules.affine` for what
    that does to rounding."""

    name: str = "fold-affine"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where nothing folds."""
        return rewrite(graph, [*AFFINE, *MOVEMENT, *FOLDING])
