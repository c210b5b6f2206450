"""Changed and made-up containers, documents, envelopes, policies and libraries: refused, or the same bytes again."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from . import fuzz

EXAMPLES = 60
_WORDS = st.sampled_from([
    b"\0", b"\xff" * 4, b"\xff" * 8, b"\x80" + bytes(7), b"PK\1\2", b"PK\3\4", b"PK\5\6", b'"', b"{", b"}", b"[", b"]",
    b",", b":", b"null", b"true", b"1e9", b"-1", b"9007199254740992", rb"\ud800", b"\xed\xa0\x80", b"vt_payload",
    b"sha256", b"/home/a/b", b"../",
])  # fmt: skip


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Places (as a part of the whole) with what is written over, put in, or taken out there."""
    kinds = st.sampled_from(["over", "in", "out", "again"])
    places = st.floats(0, 1, exclude_max=True)
    change = st.tuples(kinds, places, st.one_of(_WORDS, st.binary(min_size=1, max_size=8)))
    return draw(st.lists(change, min_size=1, max_size=4))


def changed(content: bytes, made: list[tuple[str, float, bytes]]) -> bytes:
    for kind, place, word in made:
        at = int(place * (len(content) + 1))
        if kind == "over":
            content = content[:at] + word + content[at + len(word) :]
        elif kind == "in":
            content = content[:at] + word + content[at:]
        elif kind == "out":
            content = content[:at] + content[at + len(word) :]
        else:
            content = content[:at] + content[at // 2 :]
    return content


def test_seeds_are_accepted_or_refused() -> None:
    for target in fuzz.TARGETS:
        first, *others = fuzz.seeds(target)
        assert fuzz.meet(target, first), target
        for content in others:
            fuzz.meet(target, content)


@pytest.mark.parametrize("target", fuzz.TARGETS)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(made=changes(), which=st.integers(0, 2))
@example(made=[("out", 0.999999, b"}")], which=0)
def test_changes(target: str, made: list[tuple[str, float, bytes]], which: int) -> None:
    known = fuzz.seeds(target)
    fuzz.meet(target, changed(known[which % len(known)], made))


@pytest.mark.parametrize("target", fuzz.TARGETS)
@settings(max_examples=EXAMPLES)
@given(data=st.binary(max_size=2000))
def test_noise(target: str, data: bytes) -> None:
    fuzz.meet(target, data)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=8) | st.floats(allow_nan=True),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=EXAMPLES)
@given(value=_json, at=st.integers(0, 200))
@pytest.mark.parametrize("target", ["manifests", "details", "policies"])
def test_other_values(target: str, value: object, at: int) -> None:
    """Any JSON in the place of any value of a document that is right."""
    import json

    from . import forge

    first, zeros, rest = fuzz.seeds(target)[0].partition(b"\0\0")
    document = json.loads(first)
    holders = list(_holders(document))
    holder, key = holders[at % len(holders)]
    holder[key] = value
    try:
        encoded = forge.dumps(document)
    except UnicodeEncodeError:
        return
    fuzz.meet(target, encoded + zeros + rest)


def _holders(value: object) -> list[tuple[object, object]]:
    pairs: list[tuple[object, object]] = []
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            pairs += [(value, key), *_holders(inner)]
    return pairs


@pytest.mark.slow(minutes=3)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_guided_by_coverage(target: str, tmp_path: Path) -> None:
    """atheris for a while; what it finds would go into ``seeds``."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    result = subprocess.run(
        [sys.executable, "-m", "tests.attacks.fuzz", target, "20", str(corpus)], cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=120, errors="replace",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-4000:]
    assert "stat::number_of_executed_units" in result.stderr
