"""Object detection: boxes chosen by score and overlap."""

from __future__ import annotations

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.ops.sorting import coordinates, true_positions
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import product
from vitrify.ir.dtypes import F32, I64
from vitrify.ir.graph import Value


@op("NonMaxSuppression", since=10)
def non_max_suppression(n: Call) -> Value:
    """[selected, 3]: image, class and box; per class the best first, at equal scores the lower box."""
    boxes, scores = n.value(0), n.value(1)
    fits = boxes.rank == scores.rank == 3 and boxes.shape[2] == 4
    n.check(fits, f"boxes {boxes.type} and scores {scores.type}, not [images, boxes, 4] and [images, classes, boxes]")
    n.assume(boxes.shape[0], scores.shape[0])
    n.assume(boxes.shape[1], scores.shape[2])
    scores = n.b.reshape(scores, (boxes.shape[0], scores.shape[1], boxes.shape[1]))
    order, valid = _candidates(n, scores)
    flags = n.b.suppress(_corners(n, boxes), order, valid, _one(n, 2, n.b.constant(0, I64)), _overlap(n))
    flat, _ = true_positions(n, n.b.reshape(flags, (product(flags.shape),)))
    places = coordinates(n, flat, flags.shape)
    columns = [*places[:2], n.b.gather(order, 0, *places)]
    return n.b.concat([n.b.unsqueeze(c, 1) for c in columns], 1)


def _one(n: Call, index: int, default: Value) -> Value:
    """An optional input of one element, as rank 0."""
    if not n.has(index):
        return default
    value = n.value(index)
    n.check(value.rank == 0 or value.shape == (1,), f"input {index} is {value.type}, not one element")
    return n.b.reshape(value, ())


def _overlap(n: Call) -> Value:
    held = n.constant(3) if n.has(3) else None
    if held is not None and held.size == 1:
        share = float(held.reshape(()))
        n.check(0 <= share <= 1, f"iou_threshold is {share}, outside [0, 1]")
    return _one(n, 3, n.b.constant(0.0, F32))


def _corners(n: Call, boxes: Value) -> Value:
    """Low and high corner: two opposite ones in any order, or a centre (x first) with width and height."""
    b = n.b
    parts = [b.slice_axis(boxes, 2, i, 1) for i in range(4)]
    if n.attributes.flag("center_point_box"):
        x, y, width, height = parts
        half = [n.map("mul", size, n.number(0.5, size)) for size in (height, width)]
        middle = (y, x)
        low = [b.map("sub", c, h) for c, h in zip(middle, half, strict=True)]
        high = [b.map("add", c, h) for c, h in zip(middle, half, strict=True)]
    else:
        low = [b.map("min", parts[i], parts[i + 2]) for i in range(2)]
        high = [b.map("max", parts[i], parts[i + 2]) for i in range(2)]
    return b.concat([*low, *high], 2)


def _candidates(n: Call, scores: Value) -> tuple[Value, Value]:
    """Per class the boxes above the score threshold, best first, and how many; behind them come others, so that
    all classes have as many entries. NaN is the worst score."""
    b = n.b
    images, classes, extent = scores.shape
    worst = n.number(float("-inf"), scores)
    scores = n.map("where", b.map("isnan", scores), worst, scores)
    if not n.has(4):
        valid = b.dim(extent) if not isinstance(extent, int) else b.constant(extent, I64)
        return b.sort(scores, 2, descending=True)[1], b.expand_to(valid, (images, classes))
    above = n.map("gt", scores, _one(n, 4, worst))
    valid = b.reduce("sum", b.cast(above, I64), [2])
    most = n.bind(n.map("max", b.reduce("max", valid, [0, 1]), b.constant(0, I64)))
    _, places = b.sort(above, 2, count=most, descending=True)
    rows = [b.iota(places.shape, axis) for axis in range(2)]
    kept = b.gather(n.map("where", above, scores, worst), 0, *rows, places)
    _, order = b.sort(kept, 2, descending=True)
    return b.gather(places, 0, *rows, order), valid
