"""Ops that read or change shapes alone."""

from __future__ import annotations

import numpy as np

from vitrify.frontends.onnx.body import Contents, Tensor
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.generator import sizes_of
from vitrify.frontends.onnx.ops.symbolic import plain
from vitrify.frontends.onnx.registry import op, symbolic
from vitrify.ir.dims import DimLike, Shape, floordiv, product
from vitrify.ir.dtypes import I64
from vitrify.ir.graph import Value


def _objects(items: list[DimLike]) -> Contents:
    array = np.empty(len(items), object)
    array[:] = items
    return array


@op("Shape")
def shape(n: Call) -> Tensor:
    return n.known(_objects([n.body.simplify(d) for d in n.tensor(0).shape]))


@op("Shape", since=15)
def shape_part(n: Call) -> Tensor:
    dims = [n.body.simplify(d) for d in n.tensor(0).shape]
    start = n.attributes.integer("start", 0)
    end = n.attributes.integer("end", len(dims))
    return n.known(_objects(dims[slice(start, end)]))


@op("Size")
def size(n: Call) -> Tensor:
    return n.known(_objects([product(n.body.simplify(d) for d in n.tensor(0).shape)]).reshape(()))


# Reshape
def _target(n: Call, old: Shape, allow_zero: bool) -> Shape:
    """The new shape: 0 copies a size (unless ``allowzero``), -1 is what remains."""
    if n.opset < 5:
        dims: list[DimLike] | None = list(n.attributes.integers("shape") or [])
    else:
        dims = n.dims(1)
    if dims is None:
        return _run_time_target(n, old, allow_zero)
    for i, d in enumerate(dims):
        if d == 0 and not allow_zero:
            n.check(i < len(old), f"the shape copies axis {i} of a tensor of rank {len(old)}")
            dims[i] = old[i]
    holes = [i for i, d in enumerate(dims) if d == -1]
    n.check(len(holes) <= 1, f"the shape {list(map(str, dims))} has -1 twice")
    n.check(
        all(not isinstance(d, int) or d >= -1 for d in dims),
        f"the shape {list(map(str, dims))} has a negative size",
    )
    if holes:
        dims[holes[0]] = _remaining(n, old, [d for d in dims if d != -1])
    return tuple(dims)


def _remaining(n: Call, old: Shape, kept: list[DimLike]) -> DimLike:
    """``product(old) / product(kept)``, common sizes cancelled first."""
    above, below = list(old), []
    for d in kept:
        if d in above and d != 0:
            above.remove(d)
        else:
            below.append(d)
    total, divisor = product(above), product(below)
    n.check(divisor != 0, "-1 cannot be found beside a size of 0")
    if isinstance(total, int) and isinstance(divisor, int):
        n.check(total % divisor == 0, f"{total} elements do not divide by {divisor}")
    return floordiv(total, divisor)


def _run_time_target(n: Call, old: Shape, allow_zero: bool) -> Shape:
    """The shape is a tensor of the run: 0 and -1 are replaced there, then every size gets a symbol."""
    count = n.length(1)
    if count == 0:
        return ()
    wanted = n.b.reshape(n.b.cast(n.value(1), I64), (count,))
    if not allow_zero:
        own = [n.body.resolve(n.known(_objects([d]))) for d in [*old, *([1] * count)][:count]]
        wanted = n.map("where", n.map("eq", wanted, n.number(0, wanted)), n.b.concat(own, 0), wanted)
    hole = n.map("eq", wanted, n.number(-1, wanted))
    kept = n.b.reduce("prod", n.map("where", hole, n.number(1, wanted), wanted), [0])
    total = n.body.resolve(n.known(_objects([product(old)]).reshape(())))
    rest = n.b.map("quotient", total, n.map("max", kept, n.number(1, kept)))
    sizes = n.map("where", hole, rest, wanted)
    return tuple(n.bind(n.b.slice_axis(sizes, 0, i, 1)) for i in range(count))


@op("Reshape")
def reshape(n: Call) -> Value:
    n.attributes.ignore("consumed_inputs")
    allow_zero = n.attributes.flag("allowzero")
    x = n.value(0)
    return n.b.reshape(x, _target(n, x.shape, allow_zero))


@symbolic("Reshape", since=5)
def reshape_contents(n: Call, x: Contents, shape: Contents) -> Contents | None:
    target = _target(n, x.shape, n.attributes.flag("allowzero"))
    sizes = [d for d in target if isinstance(d, int)]
    return x.reshape(sizes) if len(sizes) == len(target) and product(sizes) == x.size else None


@op("Flatten")
def flatten(n: Call) -> Value:
    x = n.value(0)
    axis = n.attributes.integer("axis", 1)
    n.check(-x.rank <= axis <= x.rank, f"axis {axis} of a tensor of rank {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    return n.b.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


# Squeeze and Unsqueeze
def _squeezed(n: Call, x: Shape) -> tuple[int, ...]:
    given = n.integers(1, "axes")
    return tuple(i for i, d in enumerate(x) if d == 1) if given is None else n.axes(given, len(x))


@op("Squeeze")
def squeeze(n: Call) -> Value:
    x = n.value(0)
    axes = _squeezed(n, x.shape)
    for a in axes:
        if x.shape[a] != 1:
            n.assume(x.shape[a], 1)
    return n.b.squeeze(x, *axes) if axes else x


@op("Unsqueeze")
def unsqueeze(n: Call) -> Value:
    x = n.value(0)
    given = n.integers(1, "axes")
    if given is None:
        n.invalid("axes are missing")
    return n.b.unsqueeze(x, *n.axes(given, x.rank + len(given))) if given else x


@symbolic("Squeeze")
def squeeze_contents(n: Call, x: Contents, axes: Contents | None = None) -> Contents:
    over = _squeezed(n, x.shape)
    n.check(all(x.shape[a] == 1 for a in over), f"axes {list(over)} of {list(x.shape)} are not of size 1")
    return x.reshape([d for i, d in enumerate(x.shape) if i not in over])


@symbolic("Unsqueeze")
def unsqueeze_contents(n: Call, x: Contents, axes: Contents | None = None) -> Contents | None:
    given = n.integers(1, "axes")
    return None if given is None else np.expand_dims(x, n.axes(given, x.ndim + len(given)))


# Expand and Tile
@op("Expand", since=8)
def expand(n: Call) -> Value:
    """Broadcasting in both directions."""
    x = n.value(0)
    if n.dims(1) is None:
        return n.expand(x, n.broadcast_shape([x.shape, _run_time_expansion(n, x.shape)]))
    return n.expand(x, n.broadcast_shape([x.shape, sizes_of(n, 1)]))


def _run_time_expansion(n: Call, shape: Shape) -> Shape:
    """The result's sizes, 1 in the wanted shape replaced by the tensor's own."""
    count = n.length(1)
    if count == 0:
        return ()
    wanted = n.b.reshape(n.b.cast(n.value(1), I64), (count,))
    own = [n.body.resolve(n.known(_objects([d]))) for d in [*([1] * count), *shape][len(shape) :]]
    sizes = n.map("where", n.map("eq", wanted, n.number(1, wanted)), n.b.concat(own[-count:], 0), wanted)
    return tuple(n.bind(n.b.slice_axis(sizes, 0, i, 1)) for i in range(count))


@symbolic("Expand", since=8)
def expand_contents(n: Call, x: Contents, shape: Contents) -> Contents | None:
    target = plain(shape)
    if target is None:
        return None
    try:
        full = np.broadcast_shapes(x.shape, tuple(target))
    except ValueError:
        return None
    return np.broadcast_to(x, full).copy() if int(np.prod(full)) <= 1024 else None


@op("Tile")
def tile_attributes(n: Call) -> Value:
    x, repeats, axis = n.value(0), n.dims(1), n.dims(2)
    if repeats is None or axis is None or not isinstance(axis[0], int):
        n.unsupported("tiles that are not constant")
    at = n.axis(axis[0], x.rank)
    return _tiled(n, x, [repeats[0] if i == at else 1 for i in range(x.rank)])


@op("Tile", since=6)
def tile(n: Call) -> Value:
    x = n.value(0)
    repeats = sizes_of(n, 1)
    n.check(len(repeats) == x.rank, f"{len(repeats)} repeats for a tensor of rank {x.rank}")
    return _tiled(n, x, list(repeats))


def _tiled(n: Call, x: Value, repeats: list[DimLike]) -> Value:
    """Each axis repeated along a new one before it, then both made one."""
    split: list[DimLike] = []
    full: list[DimLike] = []
    for size, repeat in zip(x.shape, repeats, strict=True):
        split += [1, size]
        full += [repeat, size]
    if all(r == 1 for r in repeats):
        return x
    shape = [size * repeat for size, repeat in zip(x.shape, repeats, strict=True)]
    return n.b.reshape(n.b.expand_to(n.b.reshape(x, split), tuple(full)), shape)
