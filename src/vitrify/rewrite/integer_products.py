"""Graphs of DequantizeLinear, products and QuantizeLinear multiply integers."""

from __future__ import annotations

from dataclasses import dataclass

from vitrify.ir.graph import Graph
from vitrify.rewrite.rewriter import rewrite
from vitrify.rewrite.rules.quantized import QUANTIZED


@dataclass(frozen=True)
class IntegerProducts:
    """Contractions of dequantised values by constant weights, over the integers; see :mod:`.rules.quantized` for
    what that does to rounding. Before constants fold: weights are still integers."""

    name: str = "integer-products"

    def run(self, graph: Graph) -> Graph:
        """``graph`` itself where there is none."""
        return rewrite(graph, QUANTIZED)
