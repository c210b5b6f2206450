"""ai.onnx.ml: class labels. Integers are the plan's; strings are put in the place of positions after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitrify.frontends.onnx.body import Tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.host import STRINGS, Held
from vitrify.frontends.onnx.host_call import HostCall, host
from vitrify.frontends.onnx.ops.ml_features import DOMAIN
from vitrify.frontends.onnx.registry import op
from vitrify.ir.graph import Value

#: From a node and its labels, none where it has none, to the label of each row i64[N] and the scores.
Classifier = Callable[[Call, "list[int]"], "tuple[Value, Value]"]
WORDS = "classlabels_strings"


def classifier(name: str, ints: str) -> Callable[[Classifier], Classifier]:
    """Registers a classifier whose labels are in the attribute ``ints`` or ``classlabels_strings``."""

    def register(rule: Classifier) -> Classifier:
        @op(name, domain=DOMAIN)
        def numbered(n: Call) -> Sequence[Value]:
            if n.attributes.texts(WORDS):
                n.unsupported(f"{WORDS} in a graph that only a run chooses (give labels that are integers)")
            return rule(n, n.attributes.integers(ints) or [])

        @host(name, domain=DOMAIN, alone=True)
        def named(n: HostCall) -> Sequence[Held]:
            words = n.attributes.texts(WORDS)
            if not words:
                n.unsupported(f"an input of type {n.kind(0)}")
            if given := n.attributes.integers(ints):
                n.invalid(
                    "has labels twice", expected=f"{ints} or {WORDS}", actual=f"{len(given)} and {len(words)} labels"
                )
            n.check(len(words) >= 2, f"{WORDS} is {words}: labels that are strings are two or more")
            tensors = [held if isinstance(held, Tensor) else None for held in n.inputs]
            results = rule(n.call(tensors), list(range(len(words))))
            place, scores = (Tensor(v.dtype, v.shape, value=v, home=n.body) for v in results)
            return [*n.step("ClassLabels", [place], [(STRINGS, place.shape)], labels=words), scores]

        return rule

    return register
