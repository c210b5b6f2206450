"""Layout: channels-last from the first convolution to the last, by permutes that cancel."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.layout import LAYOUT
from vitrify.rewrite.rules.movement import MOVEMENT


@dataclass(frozen=True)
class Layout:
    """Moves permutes towards the outputs through everything that can be computed in another order of axes."""

    name: str = "layout"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where it has no permute that moves."""
        return rewrite(graph, [*MOVEMENT, *LAYOUT, *FOLDING])
