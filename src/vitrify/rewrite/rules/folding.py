"""Constants: what only depends on them is computed once, here. A constant repeated many times stays one
element and an ``Expand``."""

from __future__ import annotations

from math import prod

import numpy as np

from vitrify.errors import OutOfMemoryError
from vitrify.ir import graph as g
from vitrify.ir.dims import DimLike, floordiv, maximum, minimum, mod, provably_less, provably_nonnegative
from vitrify.ir.graph import Op, Value, is_static, make_node
from vitrify.ir.interpret import InterpretError, evaluate_node
from vitrify.rewrite.facts import as_dim, element, known_array, number, same_count, static, stored_elements
from vitrify.rewrite.rewriter import Results, Rewriter, rule

_SMALL = 4096  # elements that may always become a constant
_LARGE = 1 << 24  # elements above which folding makes no more of them, and reads no more than are stored
_WORK = 1 << 31  # multiplications that folding a contraction may take


@rule(
    g.Map,
    g.Cast,
    g.BitCast,
    g.Permute,
    g.Reshape,
    g.Slice,
    g.Pad,
    g.Flip,
    g.Window,
    g.Concat,
    g.Reduce,
    g.Contract,
    g.Gather,
    g.Scatter,
)
def evaluate_constants(rw: Rewriter, op: Op, inputs: tuple[Value, ...]) -> Results:
    """Constant inputs -> a constant, unless it takes more than twice the memory of its inputs.

    What fails when run (an index outside its axis, a division of integers by zero) is left to the run."""
    arrays = [known_array(v) for v in inputs]
    known = [a for a in arrays if a is not None]
    if len(known) < len(inputs):
        return None
    (result,) = op.infer([v.type for v in inputs])
    if not is_static(result.shape):
        return None
    stored = sum(map(stored_elements, dict.fromkeys(inputs)))
    if prod(static(result.shape)) > max(_SMALL, min(2 * stored, max(stored, _LARGE))):
        return None
    if sum(a.size for a in known) > max(stored, _LARGE):  # one number, repeated beyond what can be gone through
        return None
    if isinstance(op, g.Contract) and prod(static(result.shape)) * prod(known[0].shape) > _WORK:
        return None
    if isinstance(op, g.Map) and op.fn in ("quotient", "floormod", "fmod") and result.dtype.is_int:
        if not known[1].all():
            return None
    try:
        (array,) = evaluate_node(make_node(op, inputs, rw.source), known, {})
    except (InterpretError, IndexError, OutOfMemoryError):
        return None
    return rw.constant(array, result.dtype)


@rule(g.Sort)
def sort_constants(rw: Rewriter, op: g.Sort, inputs: tuple[Value, ...]) -> Results:
    """Few constant elements in order -> two constants."""
    array = known_array(inputs[0])
    types = op.infer([inputs[0].type])
    if array is None or not all(is_static(t.shape) for t in types) or array.size > _SMALL:
        return None
    found = evaluate_node(make_node(op, inputs, rw.source), [array], {})
    return tuple(rw.constant(a, t.dtype) for a, t in zip(found, types, strict=True))


@rule(g.Call)
def call_of_constants(rw: Rewriter, op: g.Call, inputs: tuple[Value, ...]) -> Results:
    """A call of constants -> constants, by the op's reference. What fails there is left to the run."""
    arrays = [a for a in map(known_array, inputs) if a is not None]
    if not op.pure or op.evaluate is None or len(arrays) < len(inputs) or not all(map(is_static, op.shapes)):
        return None
    if sum(prod(static(s)) for s in op.shapes) > max(_SMALL, 2 * sum(map(stored_elements, inputs))):
        return None
    try:
        found = evaluate_node(make_node(op, inputs, rw.source), arrays, {})
    except Exception:  # noqa: BLE001  (the user's code may raise anything)
        return None
    return tuple(rw.constant(a, t) for a, t in zip(found, op.dtypes, strict=True))


@rule(g.Expand)
def expand_small_integers(rw: Rewriter, op: g.Expand, inputs: tuple[Value, ...]) -> Results:
    """Shapes and indices: a repeated integer of few elements is a constant."""
    array = inputs[0].constant
    if array is None or not inputs[0].dtype.is_int or not is_static(op.shape) or prod(static(op.shape)) > 64:
        return None
    return rw.constant(np.ascontiguousarray(np.broadcast_to(array, static(op.shape))), inputs[0].dtype)


@rule(g.Permute, g.Reshape, g.Slice, g.Pad, g.Flip, g.Window, g.Concat, g.Expand)
def move_one_number(rw: Rewriter, op: Op, inputs: tuple[Value, ...]) -> Results:
    """Moving the elements of a tensor that holds one number everywhere -> that number, expanded."""
    repeated = [element(v) for v in inputs]
    known = [a for a in repeated if a is not None]
    if len(known) < len(inputs) or len({a.tobytes() for a in known}) > 1:
        return None
    if isinstance(op, g.Reshape) and not same_count(inputs[0].shape, op.shape):
        return None
    if isinstance(op, g.Pad) and np.asarray(op.value, known[0].dtype).tobytes() != known[0].tobytes():
        return None
    (result,) = op.infer([v.type for v in inputs])
    source = rw.constant(known[0].reshape((1,) * len(result.shape)), result.dtype)
    if isinstance(op, g.Expand) and inputs[0].constant is not None:
        return None  # already that form
    return source if source.shape == result.shape else rw.one(g.Expand(result.shape), source)


@rule(g.Map, g.Cast)
def compute_before_expanding(rw: Rewriter, op: Op, inputs: tuple[Value, ...]) -> Results:
    """fn(expand(a), expand(b)) -> expand(fn(a, b)), over the axes along which all inputs are repeated."""
    sources = [v.node.inputs[0] if v.node is not None and isinstance(v.node.op, g.Expand) else v for v in inputs]
    shape = inputs[0].shape
    axes = [next((x.shape[i] for x in sources if x.shape[i] != 1), 1) for i in range(len(shape))]
    if tuple(axes) == shape:
        return None
    small = rw.one(op, *(rw.expand_to(x, tuple(axes)) for x in sources))
    return rw.expand_to(small, shape)


@rule(g.DimValue)
def constant_dim(rw: Rewriter, op: g.DimValue, inputs: tuple[Value, ...]) -> Results:
    """A dim that is a number -> a constant."""
    return rw.constant(np.asarray(op.value, np.int64)) if isinstance(op.value, int) else None


@rule(g.Map)
def dim_arithmetic(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """Arithmetic of symbolic sizes stays symbolic: add(dim n, 1) -> dim n+1. Truncating division becomes the
    floored one where neither side can be negative."""
    dims = [as_dim(v) for v in inputs]
    known = [d for d in dims if d is not None]
    if len(known) < len(inputs) or not known or all(isinstance(d, int) for d in known):
        return None
    a, b = known[0], known[-1]
    result: DimLike
    match op.fn:
        case "add":
            result = a + b
        case "sub":
            result = a - b
        case "mul":
            result = a * b
        case "neg":
            result = -a
        case "min":
            result = minimum(a, b)
        case "max":
            result = maximum(a, b)
        case "quotient" if provably_nonnegative(a) and provably_less(0, b):
            result = floordiv(a, b)
        case "floormod" if provably_less(0, b):
            result = mod(a, b)
        case _:
            truth = _compare(op.fn, a, b)
            return None if truth is None else rw.constant(np.asarray(truth))
    return rw.dim(result)


def _compare(fn: str, a: DimLike, b: DimLike) -> bool | None:
    """Whether the comparison holds in every run, None where runs may differ."""
    negated = {"ne": "eq", "ge": "lt", "gt": "le"}
    if fn in negated:
        opposite = _compare(negated[fn], a, b)
        return None if opposite is None else not opposite
    if fn == "eq":
        return True if a == b else False if provably_less(a, b) or provably_less(b, a) else None
    if fn == "lt":
        return True if provably_less(a, b) else False if provably_nonnegative(a - b) else None
    if fn == "le":
        return True if provably_nonnegative(b - a) else False if provably_less(b, a) else None
    return None


@rule(g.Contract)
def materialise_operands(rw: Rewriter, op: g.Contract, inputs: tuple[Value, ...]) -> Results:
    """Operands of a contraction are packed when compiling: an expanded constant becomes a real array."""
    arrays = [known_array(v) if v.constant is None else None for v in inputs]
    if all(a is None for a in arrays):
        return None
    return rw.one(op, *(v if a is None else rw.constant(a, v.dtype) for v, a in zip(inputs, arrays, strict=True)))


@rule(g.Gather)
def gather_progression(rw: Rewriter, op: g.Gather, inputs: tuple[Value, ...]) -> Results:
    """gather(x, [1, 3, 5]) -> x[1:6:2]; gather(x, 2) -> x[2]; gather(x, positions of the axis) -> x."""
    x, *indices = inputs
    if len(indices) > 1:
        return None
    (index,) = indices
    if index.node is not None and isinstance(index.node.op, g.Iota) and index.shape == (x.shape[op.axis],):
        return x
    array = known_array(index)
    if array is None or array.ndim > 1 or array.size == 0:
        return None
    positions = array.astype(np.int64).reshape(-1)
    steps = set(np.diff(positions).tolist())
    step = steps.pop() if len(steps) == 1 else 1
    if steps or step == 0 or positions.min() < 0:
        return None
    if not provably_less(int(positions.max()), x.shape[op.axis]):
        return None
    part = rw.slice_axis(x, op.axis, int(positions[0]), len(positions), step)
    return part if array.ndim else rw.reshape(part, x.shape[: op.axis] + x.shape[op.axis + 1 :])


@rule(g.Map)
def select_by_constant(rw: Rewriter, op: g.Map, inputs: tuple[Value, ...]) -> Results:
    """where(true, a, b) -> a; where(c, a, a) -> a; where(not c, a, b) -> where(c, b, a)."""
    if op.fn != "where":
        return None
    condition, a, b = inputs
    known = number(condition)
    if known is not None or a is b:
        return a if known is None or known else b
    node = condition.node
    if node is not None and isinstance(node.op, g.Map) and node.op.fn == "not":
        return rw.one(op, node.inputs[0], b, a)
    return None


FOLDING = [
    compute_before_expanding,
    evaluate_constants,
    sort_constants,
    call_of_constants,
    move_one_number,
    expand_small_integers,
    constant_dim,
    dim_arithmetic,
    gather_progression,
    select_by_constant,
]
