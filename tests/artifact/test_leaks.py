"""Local paths in text, JSON, UTF-16 and machine code."""

from __future__ import annotations

import os
import random
import time

import pytest

from vitrify.artifact.leaks import scan
from vitrify.errors import LeakError

LEAKS = [
    "/home/u/x", "/root/a", "/Users/me/x", "see /tmp/v1", '"/work/main"', "/var/folders/ab/x", "/opt/x/y", "=/mnt/d",
    "C:\\Users\\me", "D:/build/x", "\\\\server\\share\\x", "x:/home/me/y", "/workspace/p", "PATH=/usr/bin:/home/me/bin",
    "/private/tmp/x", "/home/é", "ends in /home/u",
]  # fmt: skip
NARROW = ["file:///home/me", "-I/home/me", '"C:\\\\Users\\\\me"', '"\\\\\\\\server\\\\share\\\\x"']
FINE = [
    "src/home/page", "https://home/page", "/model/tmp/x", "/encoder/layer.0/root/conv", "/var/Sqrt", "a:/b",
    "http://x.org/tmp/y", "std::string", "1:\\n", "/tmp/", "~/work/x", "../tmp/xy", "https://example.com/opt/x",
    "\\\\alpha\\\\beta", '{"a":"\\n\\t"}', "/usr/lib/libSystem.B.dylib", "@rpath/payload", "",
]  # fmt: skip


def found(data: bytes, **options: object) -> str | None:
    try:
        scan(data, name="member", **options)  # type: ignore[arg-type]
    except LeakError as error:
        assert error.code == 19 and error.path == "member"
        return str(error.actual)
    return None


@pytest.mark.parametrize("text", LEAKS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("before", ["", "\0", " ", "'"])
def test_leaks(text: str, encoding: str, before: str) -> None:
    path = found((before + text + "\0").encode(encoding))
    assert path is not None and path in text


@pytest.mark.parametrize("text", NARROW)
def test_leaks_of_text(text: str) -> None:
    assert found(text.encode()) is not None


@pytest.mark.parametrize("text", FINE)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_what_is_no_leak(text: str, encoding: str) -> None:
    assert found(text.encode(encoding)) is None


def test_where() -> None:
    with pytest.raises(LeakError, match=r"member: a local path at byte 7; .* got /home/me/secret\n"):
        scan(b"# from /home/me/secret\nmore", name="member")
    assert found(memoryview(b"\0\0/home/me\0")) == "/home/me"


def test_paths_the_builder_knows() -> None:
    assert found(b"in /srv/build-7/out", also=["/srv/build-7"]) is not None
    assert found("in /srv/build-7/out".encode("utf-16-le"), also=["/srv/build-7"]) is not None
    assert found(b"in /srv/build-7/out", also=["/", "/srv/build-8"]) is None


def test_random_bytes_name_nothing() -> None:
    generator = random.Random(3)
    assert not [found(generator.randbytes(1 << 20)) for _ in range(8) if found(generator.randbytes(1 << 20))]


@pytest.mark.parametrize("data", [bytes(1 << 20), b"/" * (1 << 20), b"\\" * (1 << 20), b":\\" * (1 << 19)])
def test_time_is_bounded(data: bytes) -> None:
    start = time.process_time()
    found(data)
    assert time.process_time() - start < 2


def test_speed() -> None:
    data, best = os.urandom(1 << 20), 1.0
    for _ in range(20):
        start = time.perf_counter()
        found(data)
        best = min(best, time.perf_counter() - start)
    assert best < 0.02  # 1.5 ms where nothing else runs
