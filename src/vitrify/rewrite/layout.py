"""Layout: channels-last from the first convolution to the last, by permutes that cancel."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.folding import FOLDING
from vitrify.rewrite.rules.layout import LAYOUT, SHUFFLE_IN_STORE
from vitrify.rewrite.rules.movement import MOVEMENT


@dataclass(frozen=True)
class Layout:
    """Moves permutes towards the outputs through everything that can be computed in another order of axes.

    ``shuffle_in_store``: a channel shuffle after a grouped convolution becomes the order in which that stores
    its results, instead of one that its reader sees. Its stores are then single elements, and those of
    neighbouring groups share cache lines: ShuffleNet ran 6 % slower."""

    name: str = "layout"
    shuffle_in_store: bool = False

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where it has no permute that moves."""
        shuffles = SHUFFLE_IN_STORE if self.shuffle_in_store else []
        return rewrite(graph, [*MOVEMENT, *LAYOUT, *shuffles, *FOLDING])
