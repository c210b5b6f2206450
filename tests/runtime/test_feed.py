"""Inputs in every form a caller may bring: taken when they mean the same, else refused with the reason."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from vitrify.errors import InvalidArgumentError
from vitrify.runtime.session import Session

from .plans import Factory

ONES = np.ones(4, np.float32)


def misaligned(values: np.ndarray) -> np.ndarray:
    raw = np.zeros(values.nbytes + 1, np.uint8)
    array = raw[1:].view(values.dtype).reshape(values.shape)
    array[...] = values
    assert not array.flags.aligned
    return array


def read_only(values: np.ndarray) -> np.ndarray:
    copy = values.copy()
    copy.flags.writeable = False
    return copy


class Exporter:
    """An object that NumPy can ask for an array, like a tensor of another library."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


class Subclass(np.ndarray):
    pass


VALUES = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
FORMS = {
    "strided": np.repeat(VALUES, 2)[::2],
    "reversed": VALUES[::-1].copy()[::-1],
    "misaligned": misaligned(VALUES),
    "read-only": read_only(VALUES),
    "big-endian": VALUES.astype(">f4"),
    "list": [1.0, 2.0, 3.0, 4.0],
    "tuple": (1.0, 2.0, 3.0, 4.0),
    "subclass": VALUES.view(Subclass),
    "other dtype object": VALUES.view(np.dtype(np.float32, metadata={"note": 1})),
    "exporter": Exporter(VALUES),
    "masked": np.ma.masked_array(VALUES),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_same_values(artifact: Factory, form: str) -> None:
    (y,) = Session(artifact("add")).run(None, {"a": FORMS[form], "b": np.zeros(4, np.float32)})
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, VALUES)


def test_broadcast_and_transposed_views(artifact: Factory) -> None:
    session = Session(artifact("dynamic_add"))
    a = np.arange(6, dtype=np.float32).reshape(3, 2).T
    b = np.broadcast_to(np.float32(2), (3, 3))
    np.testing.assert_array_equal(session.run(None, {"a": a, "b": b})[0], a + 6)
    fortran = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(session.run(None, {"a": fortran, "b": b})[0], fortran + 6)


@pytest.mark.parametrize("divisor", [7, np.int32(7), np.array(7, np.int32), np.array(7, ">i4")])
def test_zero_dimensional(artifact: Factory, divisor: object) -> None:
    _, z = Session(artifact("gather")).run(None, {"index": [4, 2], "divisor": divisor})
    assert z.tolist() == [7, 4]


def test_equal_integer_types_of_c(artifact: Factory) -> None:
    index = np.array([1, 2], np.longlong)
    y, _ = Session(artifact("gather")).run(None, {"index": index, "divisor": 1})
    assert y.tolist() == [-20, 30]


def test_empty_lists(artifact: Factory) -> None:
    y, z = Session(artifact("gather")).run(None, {"index": [], "divisor": 1})
    assert y.shape == z.shape == (0,) and y.dtype == np.int64


def test_mappings_other_than_dict(artifact: Factory) -> None:
    from types import MappingProxyType

    feed = MappingProxyType({"a": ONES, "b": ONES})
    assert Session(artifact("add")).run(None, feed)[0].tolist() == [2, 2, 2, 2]


def test_big_endian_bits_of_narrow_types(artifact: Factory) -> None:
    b = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    feed = {
        "b": b.view(np.uint16).astype(">u2"), "f": np.zeros(2, np.uint8), "i": np.zeros(2, np.uint8),
        "x": np.zeros(2, np.float32),
    }  # fmt: skip
    out = Session(artifact("narrow")).run(["b_out"], feed)[0]
    np.testing.assert_array_equal(out.view(np.uint16), b.view(np.uint16))


BAD = {
    "missing": ({"a": ONES}, ["'b': missing"]),
    "extra": ({"a": ONES, "b": ONES, "c": ONES}, ["1 problem", "'c': not an input", "initializers"]),
    "misspelt": ({"a": ONES, "B": ONES}, ["'b': missing", "'B': not an input"]),
    "non-string name": ({"a": ONES, 3: ONES}, ["'b': missing", "3: not an input"]),
    "dtype": ({"a": ONES.astype(np.float64), "b": ONES}, ["'a': expected f32", "got float64", "astype"]),
    "integers": ({"a": [1, 2, 3, 4], "b": ONES}, ["'a': expected f32", "got list of int64"]),
    "rank": ({"a": ONES.reshape(2, 2), "b": ONES}, ["'a': expected rank 1 [4], got rank 2 (2, 2)"]),
    "scalar": ({"a": 1.0, "b": ONES}, ["'a': expected rank 1 [4], got rank 0 ()"]),
    "dim": ({"a": ONES, "b": ONES[:3]}, ["'b': axis 0: expected 4, got 3"]),
    "none": ({"a": None, "b": ONES}, ["'a': expected f32, got NoneType"]),
    "text": ({"a": "abcd", "b": ONES}, ["'a': expected f32, got str"]),
    "ragged": ({"a": [[1.0], [1.0, 2.0]], "b": ONES}, ["'a': not an array"]),
    "objects": ({"a": np.array([object()] * 4), "b": ONES}, ["'a': expected f32", "got object"]),
    "dict": ({"a": {}, "b": ONES}, ["'a': expected f32, got dict"]),
    "masked": ({"a": np.ma.masked_array(ONES, ONES > 0), "b": ONES}, ["'a': a masked array"]),
    "all at once": (
        {"a": ONES.astype(np.int8), "b": ONES[:2], "c": 0},
        ["3 problems", "'a': expected f32", "'b': axis 0", "'c': not an input"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_feeds_say_everything(artifact: Factory, case: str) -> None:
    feed, parts = BAD[case]
    session = Session(artifact("add"))
    with pytest.raises(InvalidArgumentError) as caught:
        session.run(None, feed)  # type: ignore[arg-type]
    for part in [*parts, "the inputs are a: f32[4], b: f32[4]"]:
        assert part in str(caught.value)
    assert session.run(None, {"a": ONES, "b": ONES})[0].tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("feed", [None, [ONES, ONES], "ab", ONES])
def test_a_feed_that_is_no_mapping(artifact: Factory, feed: object) -> None:
    with pytest.raises(InvalidArgumentError, match="input_feed"):
        Session(artifact("add")).run(None, feed)  # type: ignore[arg-type]


def test_named_dims_must_agree(artifact: Factory) -> None:
    with pytest.raises(InvalidArgumentError, match="'b': axis 0: expected M = 3 as in 'a', got 4"):
        Session(artifact("dynamic_add")).run(
            None, {"a": np.zeros((2, 3), np.float32), "b": np.zeros((4, 3), np.float32)}
        )


@pytest.mark.parametrize(("value", "shown"), [(1 << 31, "2147483648"), (-(1 << 40), "-1099511627776")])
def test_integers_that_do_not_fit(artifact: Factory, value: int, shown: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"got {shown} to {shown}, outside"):
        Session(artifact("gather")).run(None, {"index": [0], "divisor": value})


def test_integers_beyond_64_bits(artifact: Factory) -> None:
    with pytest.raises(InvalidArgumentError, match="'divisor'"):
        Session(artifact("gather")).run(None, {"index": [0], "divisor": 1 << 70})


def test_signedness_is_part_of_the_type(artifact: Factory) -> None:
    with pytest.raises(InvalidArgumentError, match="expected i64"):
        Session(artifact("gather")).run(None, {"index": np.array([0], np.uint64), "divisor": 1})
    with pytest.raises(InvalidArgumentError, match="expected bool"):
        Session(artifact("nonzero")).run(None, {"x": [0, 1]})


def test_a_failing_exporter(artifact: Factory) -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("not on this device")

    with pytest.raises(InvalidArgumentError, match="not on this device"):
        Session(artifact("add")).run(None, {"a": Broken(), "b": ONES})
