"""Matrix products."""

from __future__ import annotations

from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import op
from vitrify.ir.dims import Shape
from vitrify.ir.dtypes import F64, DType
from vitrify.ir.graph import Value


def matmul_of(n: Call, a: Value, b: Value, dtype: DType | None = None) -> Value:
    """NumPy's matmul. The result's axes are batch, rows, columns; a right side of rank 2 has no batch."""
    n.check(a.rank >= 1 and b.rank >= 1, f"a product of {a.type} and {b.type}")
    inner = (a.rank - 1, max(b.rank - 2, 0))
    if a.shape[inner[0]] != b.shape[inner[1]]:
        n.assume(a.shape[inner[0]], b.shape[inner[1]])
        a = n.match_axis(a, inner[0], b.shape[inner[1]])
    if b.rank <= 2:
        return n.b.contract(a, b, over=([inner[0]], [inner[1]]), dtype=dtype)
    if a.rank == 1:
        return n.b.contract(b, a, over=([inner[1]], [0]), dtype=dtype)
    return _batched(n, a, b, dtype)


def _batched(n: Call, a: Value, b: Value, dtype: DType | None) -> Value:
    """Batch axes of both sides are paired; those of one side alone stay free, so nothing is repeated."""
    shape = n.broadcast_shape([a.shape[:-2], b.shape[:-2]])
    rank = len(shape)
    a, b = _with_batch(n, a, shape), _with_batch(n, b, shape)
    both = [i for i in range(rank) if a.shape[i] == b.shape[i] and shape[i] != 1]
    only_a = [i for i in range(rank) if i not in both and b.shape[i] == 1 and a.shape[i] != 1]
    only_b = [i for i in range(rank) if i not in both and a.shape[i] == 1 and b.shape[i] != 1]
    ones = [i for i in range(rank) if shape[i] == 1]
    left = n.b.squeeze(a, *ones, *only_b)
    right = n.b.squeeze(b, *ones, *only_a)
    kept_a = [i for i in range(rank) if i in both or i in only_a]
    kept_b = [i for i in range(rank) if i in both or i in only_b]
    batch = ([kept_a.index(i) for i in both], [kept_b.index(i) for i in both])
    out = n.b.contract(left, right, batch=batch, over=([left.rank - 1], [right.rank - 2]), dtype=dtype)
    # axes now: both, only_a, rows, only_b, columns
    order = [*both, *only_a, rank, *only_b, rank + 1]
    wanted = [i for i in range(rank) if i not in ones] + [rank, rank + 1]
    return n.b.reshape(n.b.permute(out, [order.index(i) for i in wanted]), (*shape, a.shape[-2], b.shape[-1]))


def _with_batch(n: Call, x: Value, shape: Shape) -> Value:
    lead = (1,) * (len(shape) - (x.rank - 2)) + x.shape[:-2]
    sizes = [1 if size == 1 else target for size, target in zip(lead, shape, strict=True)]
    return n.b.reshape(x, (*sizes, *x.shape[-2:]))


@op("MatMul")
def matmul(n: Call) -> Value:
    return matmul_of(n, n.value(0), n.value(1))


def _scaled(n: Call, x: Value, factor: float) -> Value:
    """Integers times a factor that is none are scaled as floats and truncated, as ONNX's reference does."""
    if x.dtype.is_float or factor.is_integer():
        return n.map("mul", x, n.number(factor if x.dtype.is_float else int(factor), x))
    return n.b.cast(n.map("mul", n.b.cast(x, F64), n.b.constant(factor, F64)), x.dtype)


def gemm_of(n: Call) -> Value:
    """``alpha * A' * B' + beta * C``; transposition is a choice of the contracted axes."""
    a, b = n.value(0), n.value(1)
    n.check(a.rank == 2 and b.rank == 2, f"a product of {a.type} and {b.type}, not of matrices")
    over_a, over_b = int(not n.attributes.flag("transA")), int(n.attributes.flag("transB"))
    alpha, beta = n.attributes.number("alpha", 1.0), n.attributes.number("beta", 1.0)
    broadcast = n.opset >= 7 or n.attributes.flag("broadcast")
    if a.shape[over_a] != b.shape[over_b]:
        n.assume(a.shape[over_a], b.shape[over_b])
        a = n.match_axis(a, over_a, b.shape[over_b])
    out = n.b.contract(a, b, over=([over_a], [over_b]))
    if alpha != 1:
        out = _scaled(n, out, alpha)
    c = n.optional(2)
    if c is None or beta == 0:
        return out
    n.check(broadcast or c.rank == 2, f"{c.type} does not broadcast (broadcast=0)")
    n.check(c.rank <= 2, f"{c.type} does not broadcast to {out.type}")
    if beta != 1:
        c = _scaled(n, c, beta)
    return n.b.map("add", out, n.expand(c, out.shape))


@op("Gemm")
def gemm(n: Call) -> Value:
    return gemm_of(n)
