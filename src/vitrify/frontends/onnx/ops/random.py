"""Random numbers: Philox 4x32-10 over positions, so that every element is a function of its place and the seed.

``docs/random.md`` states the generator, the streams and the distributions.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256
from math import pi

from vitrify.frontends.onnx.arrays import dtype_name, dtype_of
from vitrify.frontends.onnx.body import Body
from vitrify.frontends.onnx.call import Call
from vitrify.frontends.onnx.registry import Result, op
from vitrify.ir import graph as g
from vitrify.ir.dims import Shape, minimum, product
from vitrify.ir.dtypes import BOOL, F32, F64, I32, I64, U64, DType
from vitrify.ir.graph import Value

Words = tuple[Value, Value, Value, Value]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = (1 << 32) - 1


def philox(n: Call, shape: Shape, key: tuple[int, int]) -> Words:
    """Four words below 2^32 (as u64) per element of [product of ``shape``]; the counter is the position.

    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011."""
    b = n.b

    def number(value: int) -> Value:
        return b.constant(value, U64)

    position = b.cast(b.iota((product(shape),), 0), U64)
    zero = b.scalar(0, position)
    low, high = number(WORD), number(32)
    words = (n.map("and", position, low), n.map("shr", position, high), zero, zero)
    for step in range(ROUNDS):
        a, c = (n.map("mul", words[2 * i], number(MULTIPLIERS[i])) for i in range(2))
        round_key = [number((k + step * w) & WORD) for k, w in zip(key, WEYL, strict=True)]
        first = n.map("xor", n.map("xor", n.map("shr", c, high), words[1]), round_key[0])
        third = n.map("xor", n.map("xor", n.map("shr", a, high), words[3]), round_key[1])
        words = (first, n.map("and", c, low), third, n.map("and", a, low))
    return words


def key_of(n: Call) -> tuple[int, int]:
    """From ``seed`` where it is given, else from the node's name and place in the model."""
    if "seed" in n.attributes:
        return struct.unpack("<I", struct.pack("<f", _seed(n)))[0], 0
    digest = sha256(f"{n.source}\0{n.path}".encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little") | 1


def _seed(n: Call) -> float:
    seed = n.attributes.number("seed")
    n.check(abs(seed) <= 3.4028234663852886e38, f"seed is {seed}")
    return seed


def uniform(n: Call, shape: Shape, key: tuple[int, int], dtype: DType = F32) -> Value:
    """Multiples of 2^-24 (f64: 2^-53) in [0, 1), as ``dtype``: f32 or f64."""
    words = philox(n, shape, key)
    return n.b.reshape(_fraction(n, words[0], words[1], dtype), shape)


def _fraction(n: Call, word: Value, other: Value, dtype: DType) -> Value:
    """From the high bits of ``word``, for f64 those of ``other`` after them."""
    if dtype is F64:
        bits = n.map("or", n.map("shl", word, n.number(32, word)), other)
        return n.map("mul", n.b.cast(n.map("shr", bits, n.number(11, bits)), F64), n.b.constant(2.0**-53, F64))
    bits = n.b.cast(n.map("shr", word, n.number(8, word)), I32)
    return n.map("mul", n.b.cast(bits, F32), n.b.constant(2.0**-24, F32))


def normal(n: Call, shape: Shape, key: tuple[int, int], dtype: DType = F32) -> Value:
    """Box and Muller: ``sqrt(-2 log u) cos(2 pi v)`` with ``u`` in (0, 1] and ``v`` in [0, 1)."""
    a, b, c, d = philox(n, shape, key)
    if dtype is F64:
        u = n.map("add", _fraction(n, a, b, F64), n.b.constant(2.0**-54, F64))
        v = _fraction(n, c, d, F64)
    else:  # all 32 bits: the tail reaches as far as f32 lets it
        wide = n.map("add", n.b.cast(a, F32), n.b.constant(0.5, F32))
        u, v = n.map("mul", wide, n.b.constant(2.0**-32, F32)), _fraction(n, b, c, F32)
    radius = n.map("sqrt", n.map("mul", n.map("log", u), n.number(-2, u)))
    turn = n.map("cos", n.map("mul", v, n.number(2 * pi, v)))
    return n.b.reshape(n.map("mul", radius, turn), shape)


def _working(dtype: DType) -> DType:
    return F64 if dtype is F64 else F32


def _float_dtype(n: Call, default: DType) -> DType:
    code = n.attributes.integer("dtype") if "dtype" in n.attributes else None
    dtype = default if code is None else dtype_of(code)
    if dtype is None or not dtype.is_float:
        n.invalid("the dtype", expected="a float type", actual=default if code is None else dtype_name(code))
    return dtype


def _shape(n: Call) -> Shape:
    shape = n.attributes.integers("shape")
    if shape is None:
        n.invalid("has no shape")
    n.check(all(size >= 0 for size in shape), f"the shape {shape} has a negative size")
    return tuple(shape)


def _scaled_normal(n: Call, shape: Shape, dtype: DType) -> Value:
    mean, scale = n.attributes.number("mean", 0.0), n.attributes.number("scale", 1.0)
    z = normal(n, shape, key_of(n), _working(dtype))
    return n.b.cast(n.map("add", n.map("mul", z, n.number(scale, z)), n.number(mean, z)), dtype)


def _scaled_uniform(n: Call, shape: Shape, dtype: DType) -> Value:
    low, high = n.attributes.number("low", 0.0), n.attributes.number("high", 1.0)
    n.check(low <= high, f"low is {low}, above high, {high}")
    u = uniform(n, shape, key_of(n), _working(dtype))
    return n.b.cast(n.map("add", n.map("mul", u, n.number(high - low, u)), n.number(low, u)), dtype)


@op("RandomNormal")
def random_normal(n: Call) -> Value:
    return _scaled_normal(n, _shape(n), _float_dtype(n, F32))


@op("RandomUniform")
def random_uniform(n: Call) -> Value:
    return _scaled_uniform(n, _shape(n), _float_dtype(n, F32))


@op("RandomNormalLike")
def random_normal_like(n: Call) -> Value:
    return _scaled_normal(n, n.tensor(0).shape, _float_dtype(n, n.tensor(0).dtype))


@op("RandomUniformLike")
def random_uniform_like(n: Call) -> Value:
    return _scaled_uniform(n, n.tensor(0).shape, _float_dtype(n, n.tensor(0).dtype))


@op("Bernoulli", since=15)
def bernoulli(n: Call) -> Value:
    """1 where a uniform number is below the probability: never for 0 or NaN, always for 1."""
    x = n.value(0)
    code = n.attributes.integer("dtype") if "dtype" in n.attributes else None
    dtype = x.dtype if code is None else dtype_of(code)
    if dtype is None:
        n.unsupported(f"results of {dtype_name(code or 0)}")
    working = _working(x.dtype)
    u = uniform(n, x.shape, key_of(n), working)
    return n.b.cast(n.b.map("lt", u, n.b.cast(x, working)), dtype)


@op("Multinomial", since=7)
def multinomial(n: Call) -> Value:
    """Classes drawn by their unnormalised log probabilities: the first whose cumulative probability, in f64, is
    above a uniform number times the total."""
    x = n.value(0)
    n.check(x.rank == 2, f"probabilities {x.type} of rank {x.rank}, not 2")
    batch, classes = x.shape
    n.check(classes != 0, "there is no class to draw")
    if not isinstance(classes, int):
        n.assume(minimum(classes, 1), 1)
    samples = n.attributes.integer("sample_size", 1)
    n.check(samples >= 0, f"sample_size is {samples}")
    code = n.attributes.integer("dtype", 6)
    n.check(code in (6, 7), f"dtype is {dtype_name(code)}, not int32 or int64")
    logits = n.b.cast(x, F64)
    top = n.b.reduce("max", logits, [1], keepdims=True)
    up_to = _cumulative(n, n.b.permute(n.b.map("exp", n.map("sub", logits, top)), [1, 0]))  # [classes, batch]
    total = n.b.reduce("max", up_to, [0])
    u = uniform(n, (batch, samples), key_of(n), F64)
    goal = n.b.map("mul", u, n.b.unsqueeze(total, 1))
    passed = n.b.map("le", n.b.unsqueeze(up_to, 2), n.b.unsqueeze(goal, 0))  # [classes, batch, samples]
    drawn = n.b.reduce("sum", n.b.cast(passed, I64), [0])
    last = n.b.constant(classes - 1, I64) if isinstance(classes, int) else n.b.dim(classes - 1)
    return n.b.cast(n.map("min", drawn, last), I32 if code == 6 else I64)


def _cumulative(n: Call, x: Value) -> Value:
    """Sums of the first entries along axis 0."""
    body = Body(n.symbols, n.body)
    b = body.builder
    b.source = n.source
    entry = g.Type(x.dtype, x.shape[1:])
    position, total, here = (Value(t) for t in (g.Type(I64, ()), entry, entry))
    now = b.map("add", total, here)
    inside = b.build([position, total, here], [now, now], "running_total")
    _, sums = n.b.add(g.Scan(inside, x.shape[0], 1, 1), n.b.fill(0, x.dtype, x.shape[1:]), x)
    return sums


# ---- Dropout


def _kept(n: Call, ratio: float | Value, training: bool | Value) -> Sequence[Result]:
    """In training each element is kept with probability ``1 - ratio`` and divided by it, else it is 0."""
    x = n.value(0)
    working = _working(x.dtype)
    share = n.b.constant(ratio, working) if isinstance(ratio, float) else n.b.cast(n.b.reshape(ratio, ()), working)
    key = _dropout_key(n)
    mask = n.map("ge", uniform(n, x.shape, key, working), share)
    left = n.map("sub", n.number(1, share), share)
    scaled = n.map("div", n.b.cast(x, working), left)
    result = n.b.cast(n.map("where", mask, scaled, n.number(0, scaled)), x.dtype)
    if isinstance(training, Value):
        flag = n.b.cast(n.b.reshape(training, ()), BOOL)
        mask = n.map("or", mask, n.b.map("not", flag))
        result = n.map("where", n.b.expand_to(flag, x.shape), result, x)
    return [result, n.b.cast(mask, BOOL if n.opset >= 10 else x.dtype)]


def _dropout_key(n: Call) -> tuple[int, int]:
    if "seed" not in n.attributes:
        return key_of(n)
    seed = n.attributes.integer("seed")
    return seed & WORD, seed >> 32 & WORD


def _everything(n: Call) -> Sequence[Result]:
    x = n.tensor(0)
    mask = n.b.fill(True, BOOL if n.opset >= 10 else x.dtype, x.shape) if n.wanted[1:2] == [True] else None
    return [x, mask]


@op("Dropout")
def dropout_attributes(n: Call) -> Sequence[Result]:
    """Training up to opset 6, unless ``is_test``; a node that does not say so and gives no mask means inference."""
    n.attributes.ignore("consumed_inputs")
    ratio = n.attributes.number("ratio", 0.5)
    said = "is_test" in n.attributes
    test = n.attributes.flag("is_test")
    if n.opset >= 7 or test or (not said and n.wanted.count(True) == 1):
        return _everything(n)
    n.check(0 <= ratio < 1, f"ratio is {ratio}, outside [0, 1)")
    return _kept(n, ratio, True)


@op("Dropout", since=12)
def dropout(n: Call) -> Sequence[Result]:
    """In inference, or with a ratio of 0, the input itself."""
    n.attributes.ignore("seed")
    flag = n.constant(2) if n.has(2) else None
    if not n.has(2) or (flag is not None and not flag.any()):
        return _everything(n)
    training: bool | Value = True if flag is not None else n.value(2)
    held = n.constant(1) if n.has(1) else None
    if n.has(1) and held is None:
        return _kept(n, n.value(1), training)
    ratio = 0.5 if held is None else n.scalar(1, "ratio")
    n.check(0 <= ratio < 1, f"ratio is {ratio}, outside [0, 1)")
    return _everything(n) if ratio == 0 else _kept(n, ratio, training)
