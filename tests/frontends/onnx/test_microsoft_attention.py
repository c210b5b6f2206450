"""Attention of com.microsoft in its forms, against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.agreement import MICROSOFT, agree, compiled, fed, node_model, peer
from tests.frontends.onnx.models import assert_same, run
from vitrify.errors import InvalidModelError, UnsupportedError

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array | None]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def integers(*values: Any) -> Array:
    return np.array(values, np.int32)


def same(op: str, feeds: Feeds, *outputs: str, **options: Any) -> None:
    agree(node_model(op, feeds, outputs or ("y",), domain=MICROSOFT, **options), feeds)


BATCH, STEPS, HEADS, SIZE = 2, 5, 3, 4
WIDTH = HEADS * SIZE


def projection(batch: int = BATCH, steps: int = STEPS) -> Feeds:
    return {"x": floats(batch, steps, 7), "w": floats(7, 3 * WIDTH, seed=1), "b": floats(3 * WIDTH, seed=2)}


MASKS = {
    "none": None,
    "ends": integers(3, 5),
    "ends and starts": integers(4, 5, 1, 0),
    "keys": integers([1, 1, 0, 1, 0], [1, 1, 1, 1, 1]),
    "all hidden": integers([0, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
    "rows": np.random.default_rng(0).integers(0, 2, (BATCH, STEPS, STEPS)).astype(np.int32),
    "nothing": integers([1]),
}


@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str, unidirectional: int) -> None:
    feeds = projection() | {"m": MASKS[mask]}
    same("Attention", feeds, num_heads=HEADS, unidirectional=unidirectional)


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_attention_with_a_past(steps: int, unidirectional: int) -> None:
    feeds = projection(steps=steps) | {"m": None, "past": floats(2, BATCH, HEADS, 6, SIZE, seed=3)}
    same("Attention", feeds, "y", "present", num_heads=HEADS, unidirectional=unidirectional)
    mask = np.random.default_rng(1).integers(0, 2, (BATCH, steps + 6)).astype(np.int32)
    same("Attention", feeds | {"m": mask}, "y", "present", num_heads=HEADS, unidirectional=unidirectional)


def test_attention_with_other_values() -> None:
    feeds = {"x": floats(2, 3, 5), "w": floats(5, 2 * 8 + 12), "b": floats(28, seed=1)}
    same("Attention", feeds, num_heads=2, qkv_hidden_sizes=[8, 8, 12], scale=0.3)


def test_attention_with_bias_and_filter() -> None:
    feeds = projection() | {"m": MASKS["keys"], "past": None, "added": floats(1, HEADS, STEPS, STEPS, seed=5)}
    same("Attention", feeds, num_heads=HEADS, mask_filter_value=-3.4028234663852886e38, unidirectional=1)
    same("Attention", feeds | {"m": MASKS["all hidden"]}, num_heads=HEADS, mask_filter_value=-3.4028234663852886e38)


@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_of_separate_inputs(bias: bool) -> None:
    feeds: Feeds = {name: floats(BATCH, 5 + (i > 0), WIDTH, seed=i) for i, name in enumerate("qkv")}
    same("MultiHeadAttention", feeds | ({"b": floats(3 * WIDTH, seed=9)} if bias else {}), num_heads=HEADS)


def test_multi_head_of_cached_keys() -> None:
    query, key, value = (
        floats(BATCH, STEPS, WIDTH),
        floats(BATCH, HEADS, 6, SIZE),
        floats(BATCH, HEADS, 6, SIZE, seed=1),
    )
    same("MultiHeadAttention", {"q": query, "k": key, "v": value}, num_heads=HEADS)


@pytest.mark.parametrize("parts", [2, 3])
def test_multi_head_of_packed_inputs(parts: int) -> None:
    """onnxruntime has no CPU kernel for them: the same numbers as separate inputs."""
    joined = floats(BATCH, STEPS, HEADS, parts, SIZE)
    query = floats(BATCH, STEPS, WIDTH, seed=1)
    split = [np.ascontiguousarray(joined[:, :, :, i]).reshape(BATCH, STEPS, WIDTH) for i in range(parts)]
    separate: Feeds = dict(zip("qkv", split if parts == 3 else [query, *split], strict=True))
    right = peer(node_model("MultiHeadAttention", separate, domain=MICROSOFT, num_heads=HEADS), fed(separate))
    feeds: Feeds = {"q": joined, "k": None, "v": None} if parts == 3 else {"q": query, "k": joined, "v": None}
    agree(node_model("MultiHeadAttention", feeds, domain=MICROSOFT, num_heads=HEADS), feeds, expected=right)


@pytest.mark.parametrize("mask", ["none", "ends", "keys", "rows"])
@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("unidirectional", [0, 1])
def test_multi_head(mask: str, past: int, unidirectional: int) -> None:
    keys = STEPS + past
    random = np.random.default_rng(2)
    masks = {
        "none": None,
        "ends": integers(keys - 1, keys),
        "keys": random.integers(0, 2, (BATCH, keys)).astype(np.int32),
        "rows": random.integers(0, 2, (BATCH, STEPS, keys)).astype(np.int32),
    }
    feeds: Feeds = {name: floats(BATCH, STEPS, WIDTH, seed=i) for i, name in enumerate("qkv")}
    feeds |= {"b": None, "m": masks[mask], "added": floats(BATCH, 1, STEPS, keys, seed=7)}
    outputs = ["y"]
    if past:
        feeds |= {f"past_{n}": floats(BATCH, HEADS, past, SIZE, seed=8 + i) for i, n in enumerate("kv")}
        outputs += ["present_k", "present_v"]
    same("MultiHeadAttention", feeds, *outputs, num_heads=HEADS, unidirectional=unidirectional)


@pytest.mark.parametrize(("batch", "steps"), [(2, 0), (0, 3), (1, 1)])
def test_empty_sizes(batch: int, steps: int) -> None:
    same("Attention", projection(batch, steps), num_heads=HEADS, unidirectional=1)


def test_scores_as_a_result_and_wider_values() -> None:
    feeds: Feeds = {"q": floats(2, 3, 12), "k": floats(2, 5, 12, seed=1), "v": floats(2, 5, 18, seed=2)}
    same("MultiHeadAttention", feeds, num_heads=HEADS, scale=0.2)
    same("MultiHeadAttention", feeds | {"v": floats(2, 5, 12)}, "y", "", "", "qk", num_heads=HEADS)


def test_half_precision() -> None:
    feeds: Feeds = {name: floats(2, 5, 12, seed=i).astype(np.float16) for i, name in enumerate("qkv")}
    agree(node_model("MultiHeadAttention", feeds, domain=MICROSOFT, num_heads=HEADS), feeds, rtol=2e-3, atol=1e-3)


def grouped(
    steps: int,
    total: int,
    lengths: list[int],
    past: int | None,
    *,
    packed: bool = False,
    heads: int = 4,
    size: int = 16,
) -> Feeds:
    shared = 2
    batch = len(lengths)
    feeds: Feeds = {
        "q": floats(batch, steps, heads * size),
        "k": floats(batch, steps, shared * size, seed=1),
        "v": floats(batch, steps, shared * size, seed=2),
        "past_k": None if past is None else floats(batch, shared, past, size, seed=3),
        "past_v": None if past is None else floats(batch, shared, past, size, seed=4),
        "lengths": np.array(lengths, np.int32) - 1,
        "total": np.array(total, np.int32),
    }
    if packed:
        feeds |= {"q": floats(batch, steps, (heads + 2 * shared) * size), "k": None, "v": None}
    return feeds


GROUPED: list[tuple[Any, ...]] = [
    (6, 6, [6, 6], None),
    (1, 7, [7, 7], 6),
    (1, 7, [7, 4], 6),
    (1, 7, [7, 4], 12),
    (3, 9, [9], 6),
    (1, 1, [1, 1], None),
]


@pytest.mark.parametrize("shape", GROUPED)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotary", [None, 0, 1])
def test_grouped_query(shape: tuple[Any, ...], packed: bool, rotary: int | None) -> None:
    feeds = grouped(*shape, packed=packed)
    attributes: dict[str, Any] = {"num_heads": 4, "kv_num_heads": 2}
    if rotary is not None:
        angles = np.outer(np.arange(16), 1 / 2 ** np.arange(8)).astype(np.float32)
        feeds |= {"cos": np.cos(angles), "sin": np.sin(angles)}
        attributes |= {"do_rotary": 1, "rotary_interleaved": rotary}
    same("GroupQueryAttention", feeds, "y", "present_k", "present_v", **attributes)


@pytest.mark.parametrize(
    "attributes",
    [
        {"local_window_size": 3},
        {"local_window_size": 1},
        {"softcap": 0.7},
        {"scale": 0.1},
        {"smooth_softmax": 1},
        {"causal": 0},
    ],
)
@pytest.mark.parametrize("shape", [GROUPED[0], GROUPED[2], GROUPED[4]])
def test_grouped_query_attributes(shape: tuple[Any, ...], attributes: dict[str, Any]) -> None:
    feeds = grouped(*shape)
    same("GroupQueryAttention", feeds, "y", "present_k", "present_v", num_heads=4, kv_num_heads=2, **attributes)


@pytest.mark.parametrize("shape", [GROUPED[0], GROUPED[3]])
def test_grouped_query_bias_and_sink(shape: tuple[Any, ...]) -> None:
    feeds = grouped(*shape) | {"cos": None, "sin": None, "at": None}
    biased = feeds | {"added": floats(1, 1, shape[0], shape[1], seed=6)}
    same("GroupQueryAttention", biased, "y", "pk", "pv", num_heads=4, kv_num_heads=2)
    sunk = feeds | {"added": None, "sink": floats(4, seed=7)}
    same("GroupQueryAttention", sunk, "y", "pk", "pv", num_heads=4, kv_num_heads=2)


def test_grouped_query_of_sizes_of_the_run() -> None:
    """One model for prompts and tokens, the total length an input."""
    feeds = grouped(1, 7, [7, 4], 12)
    cache: list[int | str | None] = ["batch", 2, "past", 16]
    shapes = {"q": ["batch", "steps", 64], "past_k": cache, "past_v": cache, "lengths": ["batch"]}
    shapes |= {"k": ["batch", "steps", 32], "v": ["batch", "steps", 32]}
    attributes = {"num_heads": 4, "kv_num_heads": 2, "local_window_size": 4}
    outputs = ("y", "present_k", "present_v")
    model = node_model("GroupQueryAttention", feeds, outputs, domain=MICROSOFT, shapes=shapes, **attributes)
    for shape in ((1, 7, [7, 4], 12), (6, 6, [6], 0), (1, 20, [20, 3, 8], 19), (3, 9, [9], 6)):
        given = fed(grouped(*shape))
        expected = peer(model, given)
        assert_same(run(model, given), expected, atol=1e-5)
        assert_same(compiled(model, given), expected, atol=1e-5)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 24), (2, 3, 5, 8), (1, 1, 8)])
@pytest.mark.parametrize("one", [False, True])
def test_rotary(shape: tuple[int, ...], interleaved: int, one: bool) -> None:
    steps = shape[-2] if len(shape) == 4 else shape[1]
    angles = np.outer(np.arange(16), 1 / 10 ** np.arange(4)).astype(np.float32)
    at = np.array([4]) if one else np.random.default_rng(0).integers(0, 16, (shape[0], steps))
    feeds: Feeds = {"x": floats(*shape), "at": at.astype(np.int64), "cos": np.cos(angles), "sin": np.sin(angles)}
    same("RotaryEmbedding", feeds, interleaved=interleaved)


@pytest.mark.parametrize(
    ("op", "feeds", "attributes", "message"),
    [
        ("Attention", projection(), {"num_heads": 5}, "heads"),
        ("Attention", projection() | {"w": floats(6, 36)}, {"num_heads": 3}, "sizes differ"),
        ("Attention", projection() | {"m": integers([1, 1, 0], [1, 1, 1])}, {"num_heads": 3}, "sizes differ"),
        ("MultiHeadAttention", {"q": floats(2, 3, 8), "k": None, "v": None}, {"num_heads": 2}, "packed"),
        (
            "MultiHeadAttention",
            {"q": floats(2, 3, 8), "k": floats(2, 3, 6), "v": floats(2, 3, 8)},
            {"num_heads": 2},
            "sizes",
        ),
        ("GroupQueryAttention", grouped(6, 6, [6, 6], None), {"num_heads": 4, "kv_num_heads": 3}, "heads"),
        ("RotaryEmbedding", {"x": floats(1, 2, 8), "at": np.array([0]), "c": floats(4), "s": floats(4)}, {}, "rank 2"),
    ],
)
def test_bad_input(op: str, feeds: Feeds, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        run(node_model(op, feeds, domain=MICROSOFT, **attributes), fed(feeds))


def test_lengths_beyond_the_cache_end_the_run() -> None:
    feeds = grouped(1, 7, [7, 12], 6)
    with pytest.raises(IndexError):
        run(node_model("GroupQueryAttention", feeds, ("y",), domain=MICROSOFT, num_heads=4, kv_num_heads=2), fed(feeds))


def test_unsupported() -> None:
    feeds = projection()
    with pytest.raises(UnsupportedError, match="do_rotary"):
        run(node_model("Attention", feeds, domain=MICROSOFT, num_heads=3, do_rotary=1), fed(feeds))
