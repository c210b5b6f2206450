"""Operands of contractions that are known when compiling become arrays, so that they can be packed."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.folding import materialise_operands


@dataclass(frozen=True)
class Materialise:
    """contract(x, expand(constant)) -> contract(x, constant)."""

    name: str = "materialise"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where no contraction reads an expanded constant."""
        return rewrite(graph, [materialise_operands])
