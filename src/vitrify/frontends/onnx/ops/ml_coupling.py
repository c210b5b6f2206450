"""Pairwise coupling: class probabilities from what pairs of classes say."""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term, number_term, positions
from vitrify.ir.builder import parameter
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Scan, Value

ROUNDS = 100  # at least, as libsvm has it


def coupled(n: Call, q: Term, classes: int) -> Term:
    """The probabilities P [N, C] that minimise ``P' Q P``, for Q [N, C, C]; one class after the other.

    A row that is close enough stays as it is, so that each is what it would be alone.
    """
    batch, dtype = q.value.shape[0], q.value.dtype
    line = (batch, classes)
    start = [
        n.b.fill(1 / classes, dtype, line),
        n.b.fill(0, dtype, line),
        n.b.fill(0, dtype, (batch, 1)),
        n.b.fill(1, dtype, (batch, 1)),
    ]
    inner = Body(n.symbols, n.body)
    call = n.inside(inner)
    step = parameter("step", I64, ())
    states = [parameter(name, s.dtype, s.shape) for name, s in zip(("p", "qp", "pqp", "open"), start, strict=True)]
    matrix = parameter("q", dtype, q.value.shape)
    outputs = _step(call, Term(call, step), [Term(call, s) for s in states], Term(call, matrix), classes)
    graph = inner.builder.build([step, *states, matrix], outputs)
    results = n.b.add(Scan(graph, max(ROUNDS, classes) * classes, 4, 0), *start, q.value)
    return Term(n, results[0])


def _step(n: Call, step: Term, states: list[Term], q: Term, classes: int) -> list[Value]:
    """One class of one round. The first class of a round decides whether a row still moves."""
    p, qp, pqp, moving = states
    dtype = p.value.dtype
    which = step % classes
    first = which.equals(0)
    fresh = (q * p.unsqueeze(1)).reduce("sum", 2)
    qp = first.pick(fresh, qp)
    pqp = first.pick((p * qp).reduce("sum", 1, keepdims=True), pqp)
    error = (qp - pqp).apply("abs").reduce("max", 1, keepdims=True)
    moving = (first & (error < 0.005 / classes)).pick(moving * 0, moving)
    here = positions(n, classes, I64).equals(which)

    def at(t: Term) -> Term:
        return here.pick(t, 0).reduce("sum", 1, keepdims=True)

    diagonal = Term(n, n.b.constant(np.eye(classes), dtype))
    own = at((q * diagonal).reduce("sum", 2))
    change = (moving > 0).pick((pqp - at(qp)) / own, 0)
    whole = change + 1
    pqp = (pqp + change * (change * own + at(qp) * 2)) / (whole * whole)
    column = here.unsqueeze(0).pick(q, 0).reduce("sum", 2)
    shifted = here.pick(p + change, p)
    one = number_term(n, 1, dtype)
    return [t.value for t in (shifted / whole, (qp + change * column) / whole, pqp, moving * one)]
