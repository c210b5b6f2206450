"""The passes in order, by level."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from vitrify.debug import debug_level
from vitrify.ir.graph import Graph
from vitrify.ir.verify import verify
from vitrify.rewrite.activations import Activations
from vitrify.rewrite.common_subexpressions import CommonSubexpressions
from vitrify.rewrite.dead_code import DeadCode
from vitrify.rewrite.fold_affine import FoldAffine
from vitrify.rewrite.fold_constants import FoldConstants
from vitrify.rewrite.integer_products import IntegerProducts
from vitrify.rewrite.layout import Layout
from vitrify.rewrite.materialise import Materialise
from vitrify.rewrite.merge_contracts import MergeContracts
from vitrify.rewrite.partial_reductions import PartialReductions
from vitrify.rewrite.simplify import Simplify


class Level(IntEnum):
    """BASIC changes no result (of NaN, only the payload). EXTENDED re-associates: errors stay of the size
    that the order of summation already has. ALL also chooses layouts."""

    NONE = 0
    BASIC = 1
    EXTENDED = 2
    ALL = 3


class Pass(Protocol):
    """One rewriting of a graph. It never changes the graph it is given."""

    @property
    def name(self) -> str: ...

    def run(self, graph: Graph) -> Graph:
        """An equivalent graph of the same inputs and outputs; the same object where nothing changed."""
        ...


# Each line says what it relies on; a pass runs at its level and above.
PIPELINE: list[tuple[Level, Pass]] = [
    # Frontends leave shape arithmetic and unused values behind: clear them first, all else is faster then.
    (Level.BASIC, DeadCode()),
    # While quantised weights are integers, before folding makes floats of them.
    (Level.EXTENDED, IntegerProducts()),
    (Level.BASIC, FoldConstants()),
    # Patterns below are written against what this leaves: no identities, one form per movement.
    (Level.BASIC, Simplify()),
    # Equal values become one value before rules compare values.
    (Level.BASIC, CommonSubexpressions()),
    # Weights must be arrays before anything folds into them, and no movement comes after that unfolds them.
    (Level.BASIC, Materialise()),
    # While activations are still spelled as exporters do; constants that fold into weights would hide them.
    (Level.EXTENDED, Activations()),
    # Before affine folding: convolution and normalisation become neighbours once no permute is between them.
    (Level.ALL, Layout()),
    (Level.EXTENDED, FoldAffine()),
    # When all weights are final.
    (Level.EXTENDED, MergeContracts()),
    # What the passes above made possible, equal, or useless.
    (Level.EXTENDED, Simplify()),
    (Level.EXTENDED, Materialise()),
    # No rule puts its parts together again.
    (Level.EXTENDED, PartialReductions()),
    (Level.BASIC, CommonSubexpressions()),
    (Level.BASIC, DeadCode()),
]


def optimize(graph: Graph, level: Level, *, dump: Callable[[str, Graph], None] | None = None) -> Graph:
    """``graph`` after the passes of ``level``; it stays as it is. ``dump`` gets each pass's name and result.

    With ``VITRIFY_DEBUG`` >= 1 the graph is verified after every pass (:class:`vitrify.ir.verify.IRError`).
    """
    checked = debug_level() >= 1
    if checked:
        verify(graph)
    for least, entry in PIPELINE:
        if level < least:
            continue
        graph = entry.run(graph)
        if checked:
            verify(graph)
        if dump is not None:
            dump(entry.name, graph)
    return graph
