"""Random ops: the generator against published values, distributions against NumPy, and the same numbers every time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.compiler.harness import compile_graph
from tests.frontends.onnx.models import model_of, one_node, run
from vitrify.errors import InvalidModelError
from vitrify.frontends.onnx import import_onnx

Array = np.ndarray[Any, Any]
COUNT = 60_000


def philox(counter: list[int], key: list[int]) -> list[int]:
    """As the paper has it, in Python integers."""
    mask = 2**32 - 1
    for _ in range(10):
        a, c = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(c >> 32) ^ counter[1] ^ key[0], c & mask, (a >> 32) ^ counter[3] ^ key[1], a & mask]
        key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
    return counter


def draw(op: str, **attributes: Any) -> Array:
    (y,) = run(one_node(op, {}, opset=22, **attributes), {})
    return y


def kolmogorov(sample: Array, cdf: Any) -> float:
    """The largest distance to the distribution, times the root of the count: above 1.95 one time in 1,000."""
    ordered = np.sort(sample.astype(np.float64).reshape(-1))
    at = np.array([cdf(v) for v in ordered])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.abs(at - steps[:-1]).max(), np.abs(at - steps[1:]).max()) * math.sqrt(len(ordered)))


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def test_generator() -> None:
    """The known answer of counter and key 0, and every element by its position."""
    assert philox([0] * 4, [0] * 2) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    y = draw("RandomUniform", shape=[5], seed=0.0)
    expected = [(philox([i, 0, 0, 0], [0, 0])[0] >> 8) / 2**24 for i in range(5)]
    np.testing.assert_array_equal(y, np.array(expected, np.float32))


@pytest.mark.parametrize("dtype", [1, 11])
@pytest.mark.parametrize("seed", [1.0, 2.5, None])
def test_distributions(seed: float | None, dtype: int) -> None:
    given = {} if seed is None else {"seed": seed}
    u = draw("RandomUniform", shape=[COUNT], low=-2.0, high=3.0, dtype=dtype, **given)
    assert u.dtype == (np.float64 if dtype == 11 else np.float32)
    assert (u >= -2).all() and (u <= 3).all()
    assert kolmogorov(u, lambda v: (v + 2) / 5) < 1.95
    z = draw("RandomNormal", shape=[3, COUNT // 3], mean=1.0, scale=2.0, dtype=dtype, **given)
    assert abs(z.mean() - 1) < 4 * 2 / math.sqrt(COUNT)
    assert abs(z.std() / 2 - 1) < 4 / math.sqrt(2 * COUNT)
    assert kolmogorov((z - 1) / 2, normal_cdf) < 1.95
    assert abs(np.corrcoef(z.reshape(-1)[:-1], z.reshape(-1)[1:])[0, 1]) < 4 / math.sqrt(COUNT)


def test_like_and_narrow_types() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        x = np.zeros((7, 11), dtype)
        for op in ("RandomNormalLike", "RandomUniformLike"):
            (y,) = run(one_node(op, {"x": x}, shapes={"x": ["a", "b"]}, opset=22), {"x": x})
            assert (y.dtype, y.shape) == (x.dtype, x.shape)
            assert len(np.unique(y)) > 60
    assert draw("RandomUniform", shape=[0, 3]).shape == (0, 3)


def test_bernoulli() -> None:
    x = np.repeat(np.array([0, 0.25, 1, np.nan], np.float32), COUNT)
    (y,) = run(one_node("Bernoulli", {"x": x}, opset=22, dtype=9), {"x": x})
    shares = y.reshape(4, -1).mean(1)
    assert y.dtype == np.bool_
    assert (shares[0], shares[2], shares[3]) == (0, 1, 0)
    assert abs(shares[1] - 0.25) < 4 * math.sqrt(0.25 * 0.75 / COUNT)


def test_multinomial() -> None:
    shares = np.array([[0.1, 0.2, 0.7, 0.0], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        x = (np.log(shares) + 3).astype(np.float32)
    (y,) = run(one_node("Multinomial", {"x": x}, opset=22, sample_size=20_000, dtype=7), {"x": x})
    assert (y.dtype, y.shape) == (np.int64, (2, 20_000))
    for row, expected in zip(y, shares, strict=True):
        got = np.bincount(row, minlength=4) / row.size
        assert (np.abs(got - expected) <= 4 * np.sqrt(expected * (1 - expected) / row.size)).all()


def test_dropout_in_training() -> None:
    x = np.full(COUNT, 3, np.float32)
    feeds = {"x": x, "ratio": np.array(0.3, np.float32), "training": np.array(True)}
    model = one_node("Dropout", feeds, outputs=("y", "mask"), seed=5)
    y, mask = run(model, feeds)
    np.testing.assert_allclose(y, np.where(mask, 3 / 0.7, 0), rtol=1e-6)
    assert abs(mask.mean() - 0.7) < 4 * math.sqrt(0.21 / COUNT)
    y, mask = run(model, {**feeds, "training": np.array(False)})
    assert mask.all()
    np.testing.assert_array_equal(y, x)


def test_the_same_numbers_every_time() -> None:
    """In the interpreter, compiled, and in every run; other nodes and other seeds draw others."""
    from onnx import helper

    nodes = [helper.make_node("RandomUniform", [], [n], name=n, shape=[999]) for n in "ab"]
    nodes += [helper.make_node("RandomNormal", [], [n], shape=[999], seed=s) for n, s in (("c", 1.0), ("d", 1.0))]
    model = model_of(nodes, [], list("abcd"), opset=17)
    one = run(model, {})
    session = compile_graph(import_onnx(model))
    two, three = (session.run(None, {}) for _ in range(2))
    for x, y, z in zip(one, two, three, strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6)
        np.testing.assert_array_equal(y, z)
    assert not np.array_equal(one[0], one[1])
    np.testing.assert_array_equal(one[2], one[3])


def test_refused() -> None:
    with pytest.raises(InvalidModelError, match="low is 2"):
        draw("RandomUniform", shape=[2], low=2.0, high=1.0)
    with pytest.raises(InvalidModelError, match="negative size"):
        draw("RandomNormal", shape=[-2])
    with pytest.raises(InvalidModelError, match="dtype"):
        draw("RandomNormal", shape=[2], dtype=7)
    feeds = {"x": np.zeros(2, np.float32)}
    extra = {"ratio": np.array(1.5, np.float32), "training": np.array(True)}
    with pytest.raises(InvalidModelError, match=r"ratio is 1\.5"):
        run(one_node("Dropout", feeds, constants=extra), feeds)
    x = np.zeros((2, 0), np.float32)
    with pytest.raises(ValueError, match="dim b is 0, outside 1"):
        run(one_node("Multinomial", {"x": x}, shapes={"x": ["a", "b"]}), {"x": x})
