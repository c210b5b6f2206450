"""The oracle: graphs evaluated with NumPy, one structure at a time.

Conventions every compiled form shares:

- floats narrower than f32 compute in f32 and round once to the result; transcendental functions of f32 are
  taken in f64 and rounded, so the oracle is nearer to the exact value than any bound in the scalar table;
- sums, products and contractions of floats accumulate in f64 here (the compiled form: f32, f64 for f64);
- casts of floats to integers truncate and saturate, NaN gives 0 (ONNX leaves both undefined; inside the range
  all agree); integers of 4 and 2 bits are reached through 8 bits, of which the low ones are kept; casts between
  integers wrap; casts to narrow floats go through f32;
- integer division by zero gives 0; nothing here warns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from vitrify.errors import OutOfMemoryError, VitrifyError
from vitrify.ir import graph as g
from vitrify.ir.dims import Dim, DimLike, Symbol, evaluate, symbols
from vitrify.ir.dtypes import BOOL, F32, DType, from_numpy
from vitrify.ir.graph import Graph, Node, Op, Value
from vitrify.ir.scalar import SCALAR

Array = np.ndarray[Any, Any]
Dims = dict[str, int]
Rule = Callable[[Any, Sequence[Array], Dims, Node], list[Array]]


MOST_ELEMENTS = 1 << 47  # of one value: an address has no more bits


class InterpretError(ValueError):
    """The feeds do not fit the graph, or a run-time size contradicts it."""


def interpret(
    graph: Graph,
    feeds: Mapping[str, Array] | Sequence[Array],
    *,
    dims: Mapping[str, int] | None = None,
) -> list[Array]:
    """The outputs of ``graph`` as fresh C-contiguous arrays, exactly of the dtypes and shapes it declares.

    ``feeds`` gives the inputs by name or in order. A named dim is bound by the first input axis that is that
    dim alone; ``dims`` gives those that no input shows. Raises :class:`InterpretError` for feeds that do not
    fit and for run-time sizes that contradict the graph, ``IndexError`` for a gather or a scatter outside
    its axis, :class:`vitrify.errors.OutOfMemoryError`.
    """
    arrays = _ordered(graph, feeds)
    bound = bind_dims(graph, arrays, dims)
    results = [np.array(a, order="C", copy=True) for a in _run(graph, arrays, bound)]
    _check_assumptions(graph, bound)
    return results


def bind_dims(graph: Graph, arrays: Sequence[Array], dims: Mapping[str, int] | None = None) -> Dims:
    """The named dims of a run. Raises :class:`InterpretError` naming what contradicts the graph."""
    bound: Dims = dict(dims or {})
    for value, array in zip(graph.inputs, arrays, strict=True):
        label = f"input {value.name!r}"
        if array.dtype != value.dtype.numpy:
            raise InterpretError(f"{label} is {array.dtype.name}, expected {value.dtype.numpy.name}")
        if array.ndim != value.rank:
            raise InterpretError(f"{label} has shape {list(array.shape)}, expected {value.type}")
        for size, dim in zip(array.shape, value.shape, strict=True):
            symbol = _lone_symbol(dim)
            if symbol is not None:
                bound.setdefault(symbol.name, size)
    for name, size in bound.items():
        declared = graph.symbols.get(name)
        symbol = None if declared is None else _lone_symbol(declared)
        if symbol is not None and (size < symbol.lo or (symbol.hi is not None and size > symbol.hi)):
            raise InterpretError(f"dim {name} is {size}, outside {symbol.lo} .. {symbol.hi}")
    for value, array in zip(graph.inputs, arrays, strict=True):
        expected_shape = tuple(_size(n, bound) for n in value.shape)
        if array.shape != expected_shape:
            expected = f"{value.type} = {list(expected_shape)}"
            raise InterpretError(f"input {value.name!r} has shape {list(array.shape)}, expected {expected}")
    _check_assumptions(graph, bound)
    return bound


def _check_assumptions(graph: Graph, dims: Dims) -> None:
    """Those whose dims are bound: a run-time dim is known only when the graph has run."""
    for left, right in graph.assumptions:
        if all(s.name in dims for s in symbols(left) | symbols(right)):
            sides = _size(left, dims), _size(right, dims)
            if sides[0] != sides[1]:
                raise InterpretError(f"the graph assumes {left} == {right}, got {sides[0]} and {sides[1]}")


def evaluate_node(node: Node, arrays: Sequence[Array], dims: Mapping[str, int]) -> list[Array]:
    """The results of one node (views of ``arrays`` where the structure is one). ``dims`` holds the symbols in
    its sizes; a ``BindDim`` adds its own where ``dims`` is a ``dict``. Raises as :func:`interpret`."""
    table = dims if isinstance(dims, dict) else dict(dims)
    rule = _RULES.get(type(node.op))
    if rule is None:
        raise TypeError(f"no rule evaluates {type(node.op).__name__}")
    with np.errstate(all="ignore"):
        try:
            results = [np.asarray(r) for r in rule(node.op, arrays, table, node)]
        except VitrifyError:
            raise
        except MemoryError as error:
            raise OutOfMemoryError(f"{_where(node)}: {error}") from None
        except ValueError as error:
            if "dimension" in str(error):  # NumPy's word for a size beyond the address space
                raise OutOfMemoryError(f"{_where(node)}: {error}") from None
            raise
    for value, result in zip(node.outputs, results, strict=True):
        _check_result(node, value, result, table)
    return results


def _check_result(node: Node, value: Value, result: Array, dims: Dims) -> None:
    shape = tuple(_size(n, dims) for n in value.shape)
    if result.shape != shape or result.dtype != value.dtype.numpy:
        got = f"{result.dtype.name}{list(result.shape)}"
        raise InterpretError(f"{_where(node)} gives {got}, its type says {value.type} = {list(shape)}")


def _ordered(graph: Graph, feeds: Mapping[str, Array] | Sequence[Array]) -> list[Array]:
    names = [v.name for v in graph.inputs]
    if isinstance(feeds, Mapping):
        if set(feeds) != set(names):
            raise InterpretError(f"expected the inputs {names}, got {list(feeds)}")
        return [np.asarray(feeds[name]) for name in names]
    if len(feeds) != len(names):
        raise InterpretError(f"expected {len(names)} inputs, got {len(feeds)}")
    return [np.asarray(a) for a in feeds]


def _lone_symbol(value: DimLike) -> Symbol | None:
    if isinstance(value, Dim) and len(value.terms) == 1:
        monomial, coefficient = value.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


def _run(graph: Graph, arrays: Sequence[Array], dims: Dims) -> list[Array]:
    """Values are dropped after their last use, so that deep models fit."""
    table = dict(zip(graph.inputs, arrays, strict=True))
    last = {value: i for i, node in enumerate(graph.nodes) for value in node.inputs}
    kept = set(graph.outputs)
    for i, node in enumerate(graph.nodes):
        results = evaluate_node(node, [table[v] for v in node.inputs], dims)
        table.update(zip(node.outputs, results, strict=True))
        for value in (*node.inputs, *node.outputs):
            if last.get(value, i) == i and value not in kept:
                table.pop(value, None)
    return [table[v] for v in graph.outputs]


def _size(value: DimLike, dims: Mapping[str, int]) -> int:
    try:
        return evaluate(value, dims)
    except KeyError as error:
        raise InterpretError(f"dim {error.args[0]} in {value} is not bound; pass it in dims") from None
    except ZeroDivisionError:
        raise InterpretError(f"{value} divides by zero under {dict(dims)}") from None


def _sizes(values: Sequence[DimLike], dims: Dims, node: Node) -> tuple[int, ...]:
    result = tuple(_size(v, dims) for v in values)
    if any(n < 0 for n in result):
        raise InterpretError(f"{_where(node)}: negative size in {list(result)}")
    if prod(result) > MOST_ELEMENTS:
        raise OutOfMemoryError(f"{_where(node)}: shape {list(result)}", expected=f"at most {MOST_ELEMENTS} elements")
    return result


def _where(node: Node) -> str:
    return f"{node.op.name} ({node.source})" if node.source else node.op.name


def widen(x: Array, dtype: DType) -> Array:
    """``x`` in the type its arithmetic happens in."""
    return x if dtype.compute is dtype else x.astype(dtype.compute.numpy)


def narrow(x: Array, dtype: DType) -> Array:
    """``x`` (of ``dtype.compute`` or wider) rounded to ``dtype``: floats through f32, integers wrap."""
    if dtype.is_float and dtype.bits < 32:
        x = np.asarray(x).astype(np.float32)
    elif dtype.bits < 8:
        x = np.asarray(x).astype(dtype.compute.numpy)
    return np.asarray(x).astype(dtype.numpy)


def cast(x: Array, dtype: DType, *, saturate: bool = True) -> Array:
    """ONNX's Cast, defined everywhere (see the head of this module)."""
    source = from_numpy(x.dtype)
    if dtype is source:
        return x
    if dtype is BOOL:
        return np.asarray(widen(x, source) != 0)
    if dtype.is_float and dtype.bits == 8:
        return _to_f8(widen(x, source).astype(np.float32), dtype, saturate)
    if dtype.is_float or not source.is_float:
        return narrow(widen(x, source), dtype)
    if dtype.bits < 8:
        return narrow(_saturated(widen(x, source), dtype.compute), dtype)
    return _saturated(widen(x, source), dtype)


def _to_f8(x: Array, dtype: DType, saturate: bool) -> Array:
    if saturate:
        from ml_dtypes import finfo

        greatest = np.float32(finfo(dtype.numpy).max)  # type: ignore[no-untyped-call]
        x = np.asarray(np.clip(x, -greatest, greatest))
    return x.astype(dtype.numpy)


def _saturated(x: Array, dtype: DType) -> Array:
    wide = np.trunc(x.astype(np.float64))
    low, high = int(dtype.min()), int(dtype.max())
    greatest = float(high) if int(float(high)) <= high else float(np.nextafter(float(high), 0))
    inside = (wide >= low) & (wide <= greatest)
    word = np.uint64 if low == 0 else np.int64
    result = np.asarray(np.where(inside, wide, 0).astype(word).astype(dtype.numpy))
    result[wide > greatest] = high
    result[wide < low] = low
    return result


_RULES: dict[type[Op], Rule] = {}


def _rule(structure: type[Op]) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES[structure] = rule
        return rule

    return register


@_rule(g.Map)
def _map(op: g.Map, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    row = SCALAR[op.fn]
    dtypes = [from_numpy(a.dtype) for a in arrays]
    wide = [widen(a, d) for a, d in zip(arrays, dtypes, strict=True)]
    if row.ulp and dtypes[-1].compute is F32:
        wide = [a.astype(np.float64) for a in wide]
    result = np.asarray(row.reference(*wide))
    return [narrow(result, row.result(tuple(dtypes)))]


@_rule(g.Cast)
def _cast(op: g.Cast, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [cast(arrays[0], op.dtype, saturate=op.saturate)]


@_rule(g.BitCast)
def _bit_cast(op: g.BitCast, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [np.ascontiguousarray(arrays[0]).reshape(arrays[0].shape).view(op.dtype.numpy)]


@_rule(g.Permute)
def _permute(op: g.Permute, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [arrays[0].transpose(op.perm)]


@_rule(g.Expand)
def _expand(op: g.Expand, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [np.broadcast_to(arrays[0], _sizes(op.shape, dims, node))]


@_rule(g.Reshape)
def _reshape(op: g.Reshape, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    shape = _sizes(op.shape, dims, node)
    if prod(shape) != arrays[0].size:
        raise InterpretError(f"{_where(node)}: {list(arrays[0].shape)} does not reshape to {list(shape)}")
    return [arrays[0].reshape(shape)]


@_rule(g.Slice)
def _slice(op: g.Slice, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    (x,) = arrays
    cuts = []
    sizes = _sizes(op.sizes, dims, node)
    for axis, (begin, step, size) in enumerate(zip(op.starts, op.steps, sizes, strict=True)):
        start, extent = _size(begin, dims), x.shape[axis]
        last = start + (size - 1) * step
        if size and not (min(start, last) >= 0 and max(start, last) < extent):
            where = f"positions {start} to {last} leave axis {axis} of {list(x.shape)}"
            raise InterpretError(f"{_where(node)}: {where}")
        stop = last + (1 if step > 0 else -1)
        cuts.append(slice(start, None if stop < 0 else stop, step) if size else slice(0, 0))
    return [x[tuple(cuts)]]


@_rule(g.Pad)
def _pad(op: g.Pad, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    (x,) = arrays
    low, high = _sizes(op.low, dims, node), _sizes(op.high, dims, node)
    shape = [a + n + b for a, n, b in zip(low, x.shape, high, strict=True)]
    result = np.full(shape, np.asarray(op.value, x.dtype), x.dtype)
    result[tuple(slice(a, a + n) for a, n in zip(low, x.shape, strict=True))] = x
    return [result]


@_rule(g.Flip)
def _flip(op: g.Flip, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [np.flip(arrays[0], op.axes)]


@_rule(g.Window)
def _window(op: g.Window, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    (x,) = arrays
    shape, strides, inner = list(x.shape), list(x.strides), []
    for axis, size, stride, dilation in zip(op.axes, op.sizes, op.strides, op.dilations, strict=True):
        count = (x.shape[axis] - (size - 1) * dilation - 1) // stride + 1
        if count < 0:
            fit = f"a window of {size} does not fit axis {axis} of {list(x.shape)}"
            raise InterpretError(f"{_where(node)}: {fit}")
        shape[axis] = count
        inner.append(x.strides[axis] * dilation)
        strides[axis] = x.strides[axis] * stride
    plain = x.view(f"u{x.itemsize}")  # as_strided takes NumPy's own types only
    return [as_strided(plain, (*shape, *op.sizes), (*strides, *inner), writeable=False).view(x.dtype)]


@_rule(g.Concat)
def _concat(op: g.Concat, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [np.concatenate(arrays, op.axis)]


@_rule(g.Reduce)
def _reduce(op: g.Reduce, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    (x,) = arrays
    dtype = from_numpy(x.dtype)
    wide = widen(x, dtype)
    match op.combiner:
        case "sum" | "prod":
            accumulator = np.float64 if dtype.is_float else wide.dtype
            reduction = np.sum if op.combiner == "sum" else np.prod
            result = reduction(wide, axis=op.axes, dtype=accumulator)
        case "min":
            result = np.min(wide, axis=op.axes, initial=wide.dtype.type(dtype.max()))
        case "max":
            result = np.max(wide, axis=op.axes, initial=wide.dtype.type(dtype.min()))
        case "any":
            result = np.any(wide, axis=op.axes)
        case "all":
            result = np.all(wide, axis=op.axes)
        case _:
            (axis,) = op.axes
            if x.shape[axis] == 0:
                raise InterpretError(f"{_where(node)}: {op.combiner} over an axis of size 0")
            position = np.argmin if op.combiner == "argmin" else np.argmax
            return [np.asarray(position(wide, axis=axis)).astype(np.int64)]
    return [narrow(np.asarray(result), dtype)]


@_rule(g.Contract)
def _contract(op: g.Contract, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    lhs, rhs = arrays
    free = (op.free(0, lhs.ndim), op.free(1, rhs.ndim))
    batch = [lhs.shape[a] for a in op.lhs_batch]
    left, right = [lhs.shape[a] for a in free[0]], [rhs.shape[a] for a in free[1]]
    depth = prod(lhs.shape[a] for a in op.lhs_contract)
    a = lhs.transpose((*op.lhs_batch, *free[0], *op.lhs_contract)).reshape(prod(batch), prod(left), depth)
    b = rhs.transpose((*op.rhs_batch, *free[1], *op.rhs_contract)).reshape(prod(batch), prod(right), depth)
    result = _matmul(a, b.swapaxes(1, 2), op.dtype)
    return [result.reshape((*batch, *left, *right))]


_BLOCK = 1 << 22  # elements of the left operand widened at once


def _matmul(a: Array, b: Array, dtype: DType) -> Array:
    """``[b, m, k] @ [b, k, n]``, accumulated exactly modulo 2^64 for integers, in f64 otherwise."""
    exact = all(from_numpy(x.dtype).is_int for x in (a, b)) and dtype.is_int
    small = exact and all(from_numpy(x.dtype).bits <= 16 for x in (a, b)) and a.shape[2] < 1 << 21
    accumulator = np.int64 if exact and not small else np.float64  # |sum| < 2^53: f64 is exact, and BLAS
    right = b.astype(accumulator)
    result = np.empty((*a.shape[:2], b.shape[2]), dtype.numpy)
    step = max(1, _BLOCK // max(1, a.shape[0] * a.shape[2]))
    for start in range(0, a.shape[1], step):
        part = np.matmul(a[:, start : start + step].astype(accumulator), right)
        result[:, start : start + step] = narrow(part.astype(np.int64) if exact else part, dtype)
    return result


@_rule(g.Gather)
def _gather(op: g.Gather, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    x, *indices = arrays
    cut: list[slice | Array] = [slice(None)] * op.axis
    return [np.asarray(x[(*cut, *_positions(indices, x.shape, op.axis, node))])]


def _positions(indices: Sequence[Array], shape: tuple[int, ...], axis: int, node: Node) -> list[Array]:
    """The indices as i64, all inside the axes from ``axis`` on."""
    positions = []
    for k, index in enumerate(indices):
        extent = shape[axis + k]
        wide = widen(index, from_numpy(index.dtype))
        outside = np.asarray((wide < 0) | (wide >= extent))
        if outside.any():
            bad = wide[outside].flat[0]
            raise IndexError(f"{_where(node)}: index {bad} is outside axis {axis + k} of size {extent}")
        positions.append(wide.astype(np.int64))
    return positions


_COMBINE: dict[str, Callable[..., Array]] = {
    "sum": np.add, "prod": np.multiply, "min": np.minimum, "max": np.maximum,
}  # fmt: skip


@_rule(g.Scatter)
def _scatter(op: g.Scatter, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    x, updates, *indices = arrays
    dtype = from_numpy(x.dtype)
    result = np.array(x, order="C", copy=True)
    if updates.size == 0:
        return [result]
    positions = np.stack(_positions(indices, x.shape, op.axis, node), -1).reshape(-1, len(indices))
    taken = range(op.axis, op.axis + len(indices))
    target = np.moveaxis(result, taken, range(len(indices)))
    places = range(op.axis, op.axis + indices[0].ndim)
    rows = np.moveaxis(updates, places, range(indices[0].ndim)).reshape((len(positions), *target.shape[len(indices) :]))
    for position, row in zip(map(tuple, positions.tolist()), rows, strict=True):
        if op.combiner == "replace":
            target[position] = row
        else:
            combined = _COMBINE[op.combiner](widen(np.asarray(target[position]), dtype), widen(np.asarray(row), dtype))
            target[position] = narrow(combined, dtype)
    return [result]


@_rule(g.Sort)
def _sort(op: g.Sort, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    (x,) = arrays
    (count,) = _sizes((op.count,), dims, node)
    if count > x.shape[op.axis]:
        raise InterpretError(f"{_where(node)}: the first {count} of {x.shape[op.axis]} elements")
    key = np.moveaxis(widen(x, from_numpy(x.dtype)), op.axis, -1)
    if op.descending:  # backwards and back again, so that equal elements keep their order
        order = x.shape[op.axis] - 1 - np.flip(np.argsort(np.flip(key, -1), axis=-1, kind="stable"), -1)
    else:
        order = np.argsort(key, axis=-1, kind="stable")
    order = np.moveaxis(order[..., :count], -1, op.axis).astype(np.int64)
    return [np.take_along_axis(x, order, op.axis), order]


@_rule(g.Suppress)
def _suppress(op: g.Suppress, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    boxes, order, valid, limit, threshold = arrays
    chosen = np.zeros(order.shape, bool)
    for image, kind in np.ndindex(*order.shape[:2]):
        kept: list[Array] = []
        for k in range(min(int(valid[image, kind]), order.shape[2])):
            if len(kept) >= limit:
                break
            (at,) = _positions([order[image, kind, k]], boxes.shape[1:], 0, node)
            box = boxes[image, at]
            if not any(_overlap(box, other) > threshold for other in kept):
                kept.append(box)
                chosen[image, kind, k] = True
    return [chosen]


def _overlap(a: Array, b: Array) -> np.float32:
    """What two boxes share, of what they cover together; -inf where they share nothing."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    common = np.prod(high - low)
    union = areas[0] + areas[1] - common
    fits = (high > low).all() and areas[0] > 0 and areas[1] > 0 and union > 0
    return np.float32(common / union if fits else -np.inf)


@_rule(g.Constant)
def _constant(op: g.Constant, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return [op.value]


@_rule(g.Iota)
def _iota(op: g.Iota, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    shape = _sizes(op.shape, dims, node)
    line = narrow(np.arange(shape[op.axis], dtype=np.int64), op.dtype)
    return [np.broadcast_to(line.reshape([-1 if i == op.axis else 1 for i in range(len(shape))]), shape)]


@_rule(g.DimValue)
def _dim_value(op: g.DimValue, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    value = _size(op.value, dims)
    if not -(2**63) <= value < 2**63:
        raise InterpretError(f"{_where(node)}: {op.value} = {value} does not fit i64")
    return [np.asarray(value, np.int64)]


@_rule(g.BindDim)
def _bind_dim(op: g.BindDim, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    value = int(arrays[0])
    if value < 0:
        raise InterpretError(f"{_where(node)}: dim {op.symbol} is {value}, negative")
    if dims.setdefault(op.symbol, value) != value:
        raise InterpretError(f"{_where(node)}: dim {op.symbol} is {dims[op.symbol]}, and {value} here")
    return [arrays[0]]


@_rule(g.If)
def _if(op: g.If, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    return _run(op.then if bool(arrays[0]) else op.otherwise, arrays[1:], dict(dims))


@_rule(g.Scan)
def _scan(op: g.Scan, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    (trips,) = _sizes((op.trips,), dims, node)
    carried = list(arrays[: op.carried])
    scanned = arrays[op.carried : op.carried + op.scanned]
    captured = arrays[op.carried + op.scanned :]
    stacks: list[list[Array]] = [[] for _ in op.body.outputs[op.carried :]]
    for i in range(trips):
        feeds = [np.asarray(i, np.int64), *carried, *(np.asarray(x[i]) for x in scanned), *captured]
        results = _run(op.body, feeds, dict(dims))
        carried = results[: op.carried]
        for stack, result in zip(stacks, results[op.carried :], strict=True):
            stack.append(result)
    empty = [v.type for v in node.outputs[op.carried :]]
    stacked = [
        np.stack(stack) if stack else np.empty(_sizes(t.shape, dims, node), t.dtype.numpy)
        for stack, t in zip(stacks, empty, strict=True)
    ]
    return [*carried, *stacked]


@_rule(g.Loop)
def _loop(op: g.Loop, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    limit, more = int(arrays[0]), bool(arrays[1])
    carried, captured = list(arrays[2 : 2 + op.carried]), arrays[2 + op.carried :]
    stacks: list[list[Array]] = [[] for _ in op.body.outputs[1 + op.carried :]]
    trips = 0
    while more and trips < limit:
        inner = dict(dims)
        for value, array in zip(op.body.inputs[1:], carried, strict=False):
            inner |= {str(n): size for n, size in zip(value.shape, array.shape, strict=True) if str(n) in op.sizes}
        condition, *results = _run(op.body, [np.asarray(trips, np.int64), *carried, *captured], inner)
        more, carried = bool(condition), results[: op.carried]
        for stack, result in zip(stacks, results[op.carried :], strict=True):
            if stack and stack[0].shape != result.shape:
                shapes = f"{list(stack[0].shape)} and {list(result.shape)}"
                raise InterpretError(f"{_where(node)}: entries of shapes {shapes} do not stack")
            stack.append(result)
        trips += 1
    dims[op.count] = trips
    for value, array in zip(node.outputs, carried, strict=False):
        dims.update((str(n), size) for n, size in zip(value.shape, array.shape, strict=True) if str(n) in op.names)
    stacked = []
    for value, stack in zip(node.outputs[op.carried :], stacks, strict=True):
        entry = stack[0].shape if stack else [0] * (value.rank - 1)
        dims.update((str(n), size) for n, size in zip(value.shape[1:], entry, strict=True) if str(n) in op.names)
        shape = _sizes(value.shape, dims, node)
        stacked.append(np.stack(stack) if stack else np.empty(shape, value.dtype.numpy))
    return [*carried, *stacked]


@_rule(g.Call)
def _call(op: g.Call, arrays: Sequence[Array], dims: Dims, node: Node) -> list[Array]:
    if op.evaluate is None:
        raise InterpretError(f"{_where(node)}: {op.op} (version {op.version}) is not registered")
    owned = [np.array(a, order="C", copy=True) for a in arrays]
    return op.evaluate(op.arguments(owned), op.attributes, len(op.dtypes))
