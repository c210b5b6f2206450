"""Recurrent networks: the inputs of all steps in one contraction, then a scan with one per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.activation import exp_minus_one, hard_sigmoid_of, select_positive, softsign_of
from vitrify.frontends.onnx.ops.math import clip_to
from vitrify.frontends.onnx.registry import op
from vitrify.ir import graph as g
from vitrify.ir.builder import parameter
from vitrify.ir.dims import DimLike
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value

Activation = Callable[[Call, Value], Value]


def _line(n: Call, x: Value, scale: float, shift: float) -> Value:
    x = x if scale == 1 else n.map("mul", x, n.number(scale, x))
    return x if shift == 0 else n.map("add", x, n.number(shift, x))


# name: (rule, default alpha, default beta); None where the function takes none
_ACTIVATIONS: dict[str, tuple[Callable[[Call, Value, float, float], Value], float | None, float | None]] = {
    "sigmoid": (lambda n, x, a, b: n.b.map("sigmoid", x), None, None),
    "tanh": (lambda n, x, a, b: n.b.map("tanh", x), None, None),
    "relu": (lambda n, x, a, b: n.b.map("relu", x), None, None),
    "softsign": (lambda n, x, a, b: softsign_of(n, x), None, None),
    "softplus": (lambda n, x, a, b: n.b.map("softplus", x), None, None),
    "affine": (_line, 1.0, 0.0),
    "leakyrelu": (lambda n, x, a, b: select_positive(n, x, _line(n, x, a, 0)), 0.01, None),
    "thresholdedrelu": (
        lambda n, x, a, b: n.map("where", n.map("ge", x, n.number(a, x)), x, n.number(0, x)), 1.0, None,
    ),
    "scaledtanh": (lambda n, x, a, b: _line(n, n.b.map("tanh", _line(n, x, b, 0)), a, 0), 1.0, 1.0),
    "hardsigmoid": (hard_sigmoid_of, 0.2, 0.5),
    "elu": (lambda n, x, a, b: select_positive(n, x, _line(n, exp_minus_one(n, x), a, 0)), 1.0, None),
}  # fmt: skip


def _activations(n: Call, default: Sequence[str], directions: int) -> list[list[Activation]]:
    """The activations of each direction; alphas and betas go, in order, to those that take one."""
    names = n.attributes.texts("activations") or list(default) * directions
    alphas = list(n.attributes.numbers("activation_alpha") or [])
    betas = list(n.attributes.numbers("activation_beta") or [])
    n.check(len(names) == len(default) * directions, f"{len(names)} activations for {directions} directions")
    result: list[Activation] = []
    for name in names:
        row = _ACTIVATIONS.get(name.lower())
        if row is None:
            n.unsupported(f"the activation {name!r}")
        rule, alpha, beta = row
        a = alphas.pop(0) if alpha is not None and alphas else alpha or 0.0
        b = betas.pop(0) if beta is not None and betas else beta or 0.0
        result.append(_applied(rule, a, b))
    width = len(default)
    return [result[i * width : (i + 1) * width] for i in range(directions)]


def _applied(rule: Callable[[Call, Value, float, float], Value], alpha: float, beta: float) -> Activation:
    return lambda call, x: rule(call, x, alpha, beta)


@dataclass(frozen=True)
class Network:
    """What all directions share. ``x`` is [T, N, I]; ``lengths`` [N] or None."""

    x: Value
    lengths: Value | None
    hidden: int
    clip: float | None
    reverse: tuple[bool, ...]
    batch_first: bool

    @property
    def steps(self) -> DimLike:
        return self.x.shape[0]

    @property
    def batch(self) -> DimLike:
        return self.x.shape[1]


Step = Callable[[Call, Callable[[Value], Value], Value, list[Value]], list[Value]]


def _network(n: Call, gates: int) -> Network:
    direction = n.attributes.text("direction", "forward")
    n.attributes.ignore("output_sequence")
    n.check(direction in ("forward", "reverse", "bidirectional"), f"direction is {direction!r}")
    reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    batch_first = n.attributes.flag("layout")
    x, w, r = n.value(0), n.value(1), n.value(2)
    n.check(x.rank == w.rank == r.rank == 3, f"inputs of {x.type}, {w.type}, {r.type}, not of rank 3")
    hidden = r.shape[2]
    if not isinstance(hidden, int):
        n.unsupported("a hidden size that only a run knows")
    n.check(n.attributes.integer("hidden_size", hidden) == hidden, f"hidden_size differs from {r.type}")
    n.check(w.shape[0] == r.shape[0] == len(reverse), f"{w.type} and {r.type} for {len(reverse)} directions")
    n.check(w.shape[1] == r.shape[1] == gates * hidden, f"{w.type} and {r.type} for {gates} gates of {hidden}")
    if batch_first:
        x = n.b.permute(x, (1, 0, 2))
    if x.shape[2] != w.shape[2]:
        n.assume(x.shape[2], w.shape[2])
        x = n.match_axis(x, 2, w.shape[2])
    clip = n.attributes.number("clip") if "clip" in n.attributes else None
    lengths = n.optional(4)
    if lengths is not None:
        lengths = n.b.cast(n.match(lengths, (x.shape[1],)), I64)
    return Network(x, lengths, hidden, clip, reverse, batch_first)


def _row(n: Call, x: Value, index: int) -> Value:
    """Entry ``index`` of the first axis."""
    return n.b.squeeze(n.b.slice_axis(x, 0, index, 1), 0)


def _initial(n: Call, net: Network, index: int) -> list[Value]:
    """The state of each direction before the first step, [N, H]."""
    state = n.optional(index)
    shape = (net.batch, net.hidden)
    if state is None:
        zeros = n.b.fill(0, net.x.dtype, shape)
        return [zeros] * len(net.reverse)
    if net.batch_first:
        state = n.b.permute(state, (1, 0, 2))
    state = n.match(state, (len(net.reverse), *shape))
    return [_row(n, state, d) for d in range(len(net.reverse))]


def _biases(n: Call, d: int, gates: int, hidden: int) -> tuple[Value, Value] | None:
    """The biases of inputs and recurrence, [gates * H] each."""
    bias = n.optional(3)
    if bias is None:
        return None
    n.check(bias.rank == 2 and bias.shape[1] == 2 * gates * hidden, f"a bias of {bias.type}")
    row = _row(n, bias, d)
    return n.b.slice_axis(row, 0, 0, gates * hidden), n.b.slice_axis(row, 0, gates * hidden, gates * hidden)


def _gate(n: Call, x: Value, index: int, hidden: int, count: int = 1) -> Value:
    """Gates ``index ..`` of [.., gates * H]."""
    return n.b.slice_axis(x, x.rank - 1, index * hidden, count * hidden)


def _clipped(n: Call, net: Network, x: Value) -> Value:
    return x if net.clip is None else clip_to(n, x, n.number(-net.clip, x), n.number(net.clip, x))


def _turned(n: Call, net: Network, x: Value) -> Value:
    """[T, N, ..] with the steps of each sequence in reverse order; what lies behind its end stays."""
    if net.lengths is None:
        return n.b.flip(x, 0)
    shape = (net.steps, net.batch)
    step, last = n.b.iota(shape, 0), n.map("sub", net.lengths, n.number(1, net.lengths))
    back = n.map("sub", last, step)
    at = n.map("where", n.map("ge", back, n.number(0, back)), back, step)
    return n.b.gather(x, 0, at, n.b.iota(shape, 1))


def _run(n: Call, net: Network, inputs: Value, states: list[Value], step: Step) -> tuple[Value, list[Value]]:
    """All steps over [T, N, gates * H]: the first state of every step [T, N, H], and the last states."""
    if net.steps == 1 and net.lengths is None:
        last = step(n, lambda v: v, n.b.squeeze(inputs, 0), states)
        return n.b.unsqueeze(last[0], 0), last
    body = Body(n.symbols, n.body)
    body.builder.source = n.source
    inside = n.inside(body)
    position = parameter("step", I64, ())
    carried = [parameter(f"state_{i}", s.dtype, s.shape) for i, s in enumerate(states)]
    current = parameter("input", inputs.dtype, inputs.shape[1:])

    def outer(value: Value) -> Value:
        return body.capture(value, n.body)

    new = step(inside, outer, current, carried)
    shown = new[0]
    if net.lengths is not None:
        live = inside.map("lt", position, outer(net.lengths))
        live = body.builder.unsqueeze(live, -1)
        new = [inside.map("where", live, a, b) for a, b in zip(new, carried, strict=True)]
        shown = inside.map("where", live, shown, inside.number(0, shown))
    captured = list(body.captured)
    graph = body.builder.build(
        [position, *carried, current, *(body.captured[v] for v in captured)], [*new, shown], "steps"
    )
    results = n.b.add(g.Scan(graph, net.steps, len(states), 1), *states, inputs, *captured)
    return results[-1], list(results[:-1])


def _outputs(n: Call, net: Network, ys: list[Value], finals: list[list[Value]]) -> list[Value]:
    """Y and the last states, the directions stacked."""
    y = n.b.concat([n.b.unsqueeze(v, 1) for v in ys], 1)  # [T, D, N, H]
    states = [n.b.concat([n.b.unsqueeze(f[i], 0) for f in finals], 0) for i in range(len(finals[0]))]  # [D, N, H]
    if net.batch_first:
        return [n.b.permute(y, (2, 0, 1, 3)), *(n.b.permute(s, (1, 0, 2)) for s in states)]
    return [y, *states]


def _recurrent(
    n: Call,
    gates: int,
    default: Sequence[str],
    state_inputs: Sequence[int],
    make: Callable[..., tuple[Value | None, Step]],
) -> list[Value]:
    """Runs every direction; ``make`` gives its input bias and its step."""
    net = _network(n, gates)
    activations = _activations(n, default, len(net.reverse))
    starts = [_initial(n, net, i) for i in state_inputs]
    ys: list[Value] = []
    finals: list[list[Value]] = []
    for d, reverse in enumerate(net.reverse):
        weights, recurrence = _row(n, n.value(1), d), _row(n, n.value(2), d)
        bias, step = make(n, net, d, recurrence, activations[d])
        inputs = n.b.contract(net.x, weights, over=([2], [1]))
        inputs = inputs if bias is None else n.map("add", inputs, bias)
        inputs = _turned(n, net, inputs) if reverse else inputs
        y, last = _run(n, net, inputs, [s[d] for s in starts], step)
        ys.append(_turned(n, net, y) if reverse else y)
        finals.append(last)
    return _outputs(n, net, ys, finals)


# LSTM
def _lstm(n: Call, net: Network, d: int, recurrence: Value, functions: list[Activation]) -> tuple[Value | None, Step]:
    """Gates in the order input, output, forget, cell."""
    f, cell_of, out_of = functions
    coupled = n.attributes.flag("input_forget")
    holes = n.optional(7)
    peep = None if holes is None else _row(n, n.match(holes, (len(net.reverse), 3 * net.hidden)), d)
    peepholes = [] if peep is None else [_gate(n, peep, i, net.hidden) for i in range(3)]
    biases = _biases(n, d, 4, net.hidden)

    def step(m: Call, outer: Callable[[Value], Value], x: Value, states: list[Value]) -> list[Value]:
        h, c = states
        gates = m.b.map("add", x, m.b.contract(h, outer(recurrence), over=([1], [1])))
        i, o, forget, new = (_gate(m, gates, k, net.hidden) for k in range(4))

        def looked(gate: Value, cell: Value, k: int) -> Value:
            return m.b.map("add", gate, m.map("mul", cell, outer(peepholes[k]))) if peepholes else gate

        i = f(m, _clipped(m, net, looked(i, c, 0)))
        if coupled:
            forget = m.map("sub", m.number(1, i), i)
        else:
            forget = f(m, _clipped(m, net, looked(forget, c, 2)))
        new = cell_of(m, _clipped(m, net, new))
        cell = m.b.map("add", m.b.map("mul", forget, c), m.b.map("mul", i, new))
        o = f(m, _clipped(m, net, looked(o, cell, 1)))
        return [m.b.map("mul", o, out_of(m, cell)), cell]

    return None if biases is None else n.b.map("add", *biases), step


@op("LSTM")
def lstm(n: Call) -> list[Value]:
    return _recurrent(n, 4, ("Sigmoid", "Tanh", "Tanh"), (5, 6), _lstm)


# GRU
def _gru(n: Call, net: Network, d: int, recurrence: Value, functions: list[Activation]) -> tuple[Value | None, Step]:
    """Gates in the order update, reset, hidden."""
    f, hidden_of = functions
    linear = n.attributes.flag("linear_before_reset")
    size = net.hidden
    biases = _biases(n, d, 3, size)
    early = n.b.slice_axis(recurrence, 0, 0, 2 * size)
    late = n.b.slice_axis(recurrence, 0, 2 * size, size)
    inner: Value | None = None
    bias: Value | None = None
    if biases is not None:
        inner = _gate(n, biases[1], 2, size) if linear else None
        zeros = n.b.fill(0, biases[1].dtype, (size,))
        outer_part = n.b.concat([_gate(n, biases[1], 0, size, 2), zeros], 0) if linear else biases[1]
        bias = n.b.map("add", biases[0], outer_part)

    def step(m: Call, outer: Callable[[Value], Value], x: Value, states: list[Value]) -> list[Value]:
        (h,) = states
        first = m.b.map("add", _gate(m, x, 0, size, 2), m.b.contract(h, outer(early), over=([1], [1])))
        z, r = (f(m, _clipped(m, net, _gate(m, first, k, size))) for k in range(2))
        if linear:
            part = m.b.contract(h, outer(late), over=([1], [1]))
            part = part if inner is None else m.map("add", part, outer(inner))
            part = m.b.map("mul", r, part)
        else:
            part = m.b.contract(m.b.map("mul", r, h), outer(late), over=([1], [1]))
        new = hidden_of(m, _clipped(m, net, m.b.map("add", _gate(m, x, 2, size), part)))
        kept = m.b.map("mul", z, h)
        return [m.b.map("add", m.b.map("mul", m.map("sub", m.number(1, z), z), new), kept)]

    return bias, step


@op("GRU")
def gru(n: Call) -> list[Value]:
    return _recurrent(n, 3, ("Sigmoid", "Tanh"), (5,), _gru)


# RNN
def _rnn(n: Call, net: Network, d: int, recurrence: Value, functions: list[Activation]) -> tuple[Value | None, Step]:
    biases = _biases(n, d, 1, net.hidden)

    def step(m: Call, outer: Callable[[Value], Value], x: Value, states: list[Value]) -> list[Value]:
        total = m.b.map("add", x, m.b.contract(states[0], outer(recurrence), over=([1], [1])))
        return [functions[0](m, _clipped(m, net, total))]

    return None if biases is None else n.b.map("add", *biases), step


@op("RNN")
def rnn(n: Call) -> list[Value]:
    return _recurrent(n, 1, ("Tanh",), (5,), _rnn)
