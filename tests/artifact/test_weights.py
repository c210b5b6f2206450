"""Weights: mapped at once, compared before they are used."""

from __future__ import annotations

import hashlib
import os
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vitrify.artifact.weights import LEAF_BYTES, Weights, leaves
from vitrify.errors import IntegrityError, RaceError

START = LEAF_BYTES


def stored(path: Path, content: bytes, start: int = START) -> int:
    path.write_bytes(bytes(start) + content + b"after")
    return os.open(path, os.O_RDONLY)


def opened(path: Path, content: bytes, expected: bytes | None = None) -> Weights:
    fd = stored(path, content)
    expected = leaves([content]) if expected is None else expected
    try:
        return Weights(fd, START, len(content), expected, str(path))
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, 71 * LEAF_BYTES + 5])
def test_sizes(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    pieces = [content[i : i + LEAF_BYTES] for i in range(0, size, LEAF_BYTES)]
    expected = b"".join(hashlib.sha256(p).digest() for p in pieces)
    assert leaves([content]) == expected
    cuts = sorted({0, size, *np.random.default_rng(1).integers(0, size + 1, 9).tolist()})
    assert leaves([content[a:b] for a, b in pairwise(cuts)]) == expected
    found = opened(tmp_path / "w", content)
    found.check()
    assert found.data == content
    assert not size or np.frombuffer(found.data, np.uint8).ctypes.data % 4096 == 0


def test_every_leaf_is_compared(tmp_path: Path) -> None:
    content = bytes(70 * LEAF_BYTES)
    expected = leaves([content])
    for at in (0, LEAF_BYTES - 1, LEAF_BYTES, 40 * LEAF_BYTES + 7, len(content) - 1):
        changed = bytearray(content)
        changed[at] ^= 4
        found = opened(tmp_path / "w", bytes(changed), expected)
        for _ in range(2):  # a failure is not forgotten
            with pytest.raises(IntegrityError, match=f"leaf {at // LEAF_BYTES} "):
                found.check()


def test_swapped_leaves(tmp_path: Path) -> None:
    content = bytes(LEAF_BYTES) + b"\1" * LEAF_BYTES
    expected = leaves([content])
    found = opened(tmp_path / "w", content, expected[32:] + expected[:32])
    with pytest.raises(IntegrityError):
        found.check()


def test_lists_of_another_length(tmp_path: Path) -> None:
    content = bytes(2 * LEAF_BYTES)
    expected = leaves([content])
    for other in (expected[:32], expected + expected[:32], expected[:-1], b""):
        with pytest.raises(IntegrityError):
            opened(tmp_path / "w", content, other)


def test_a_shorter_file(tmp_path: Path) -> None:
    fd = stored(tmp_path / "w", b"x")
    with pytest.raises(IntegrityError):
        Weights(fd, START, LEAF_BYTES, bytes(32), "w")
    os.close(fd)


def test_a_change_while_it_is_examined(tmp_path: Path) -> None:
    content = bytes(LEAF_BYTES)
    found = opened(tmp_path / "w", content)
    with open(tmp_path / "w", "r+b") as file:  # the same bytes, but nobody can know that of every moment
        file.seek(START)
        file.write(content)
    with pytest.raises(RaceError):
        found.check()


def test_many_threads(tmp_path: Path) -> None:
    found = opened(tmp_path / "w", os.urandom(100 * LEAF_BYTES))
    failures = []

    def check() -> None:
        try:
            found.check()
        except IntegrityError as error:
            failures.append(error)

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_descriptors_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    found = opened(tmp_path / "w", bytes(LEAF_BYTES))
    found.check()
    del found
    assert len(os.listdir("/proc/self/fd")) == before
