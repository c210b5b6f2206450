"""ai.onnx.preview.training: one step of an optimizer, for each of the tensors it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.arithmetic import Term
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir.graph import Value

DOMAIN = "ai.onnx.preview.training"
Step = Callable[[Term, Term, Sequence[Term]], Sequence[Term]]


def _scalar(n: Call, index: int, like: Value) -> Term:
    n.check(n.length(index) == 1, f"input {index} is {n.tensor(index).shape}, not one number")
    return Term(n, n.b.reshape(n.value(index), ())).cast(like.dtype)


def _for_each(n: Call, parts: int, step: Step) -> list[Result]:
    """Inputs: rate, count of updates, then ``parts`` groups of tensors; results in groups as well."""
    count, rest = divmod(len(n.inputs) - 2, parts)
    n.check(count >= 1 and rest == 0, f"{len(n.inputs) - 2} tensors, not a multiple of {parts}")
    groups: list[list[Result]] = []
    for i in range(count):
        tensors = [n.value(2 + i + count * k) for k in range(parts)]
        same = [Term(n, n.match(t, tensors[0].shape)) for t in tensors]
        made = step(_scalar(n, 0, tensors[0]), _scalar(n, 1, tensors[0]), same)
        groups.append([t.value for t in made])
    return [group[k] for k in range(len(groups[0])) for group in groups]


@op("Adagrad", domain=DOMAIN)
def adagrad(n: Call) -> Sequence[Result]:
    a = n.attributes
    decay, epsilon = a.number("decay_factor", 0.0), a.number("epsilon", 1e-6)
    norm = a.number("norm_coefficient", 0.0)

    def step(rate: Term, count: Term, tensors: Sequence[Term]) -> Sequence[Term]:
        x, gradient, total = tensors
        slope = norm * x + gradient
        added = total + slope * slope
        return x - rate / (count * decay + 1) * slope / (added.apply("sqrt") + epsilon), added

    return _for_each(n, 3, step)


@op("Adam", domain=DOMAIN)
def adam(n: Call) -> Sequence[Result]:
    a = n.attributes
    alpha, beta = a.number("alpha", 0.9), a.number("beta", 0.999)
    epsilon, norm = a.number("epsilon", 1e-6), a.number("norm_coefficient", 0.0)
    after = a.number("norm_coefficient_post", 0.0)

    def step(rate: Term, count: Term, tensors: Sequence[Term]) -> Sequence[Term]:
        x, gradient, first, second = tensors
        slope = norm * x + gradient
        mean = alpha * first + (1 - alpha) * slope
        square = beta * second + (1 - beta) * (slope * slope)
        corrected = rate * (1 - _power(beta, count)).apply("sqrt") / (1 - _power(alpha, count))
        adjusted = (count > 0).pick(corrected, rate)
        moved = x - adjusted * (mean / (square.apply("sqrt") + epsilon))
        return (1 - after) * moved, mean, square

    return _for_each(n, 4, step)


def _power(base: float, exponent: Term) -> Term:
    n = exponent.n
    return Term(n, n.map("pow", n.number(base, exponent.value), exponent.value))


@op("Momentum", domain=DOMAIN)
def momentum(n: Call) -> Sequence[Result]:
    a = n.attributes
    alpha, beta, norm = a.number("alpha"), a.number("beta"), a.number("norm_coefficient")
    mode = a.text("mode", "standard")
    n.check(mode in ("standard", "nesterov"), f"mode is {mode!r}, not standard or nesterov")

    def step(rate: Term, count: Term, tensors: Sequence[Term]) -> Sequence[Term]:
        x, gradient, velocity = tensors
        slope = norm * x + gradient
        weight = (count > 0).pick(count * 0 + beta, 1)
        moved = alpha * velocity + weight * slope
        return x - rate * (slope + alpha * moved if mode == "nesterov" else moved), moved

    return _for_each(n, 3, step)


@op("Gradient", domain=DOMAIN)
def gradient(n: Call) -> Result:
    n.unsupported("gradients are computed by training frameworks; export the model with its backward graph")
