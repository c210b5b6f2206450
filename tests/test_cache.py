"""The compile cache: one builder, damage, eviction, directories that cannot be written."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrify.cache import DIRECTORY_VARIABLE, LIMIT_VARIABLE, Cache, CacheWarning, Write, default_directory
from vitrify.errors import ArtifactError, CacheError, PlatformError, ToolchainError


def builder(text: str = "built", log: list[str] | None = None) -> Callable[[], Write]:
    def build() -> Write:
        if log is not None:
            log.append(text)

        def write(path: Path) -> None:
            path.mkdir()
            (path / "file").write_text(text)

        return write

    return build


def load(path: Path) -> str:
    """As an artifact's: damage is an ArtifactError."""
    text = (path / "file").read_text() if (path / "file").exists() else ""
    if not text.startswith("built"):
        raise ArtifactError("damaged")
    return text


def never() -> Write:
    raise AssertionError("built again")


def test_built_once_then_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    result, entry = cache.fetch("key", builder(), load)
    assert result == "built" and entry.compiled and not entry.temporary
    entry.close()
    result, entry = Cache(tmp_path / "cache").fetch("key", never, load)
    assert result == "built" and not entry.compiled


def test_errors_of_a_build_leave_nothing(tmp_path: Path) -> None:
    def failing() -> Write:
        raise ToolchainError("no compiler")

    def half(path: Path) -> None:
        path.mkdir()
        (path / "file").write_text("half")
        raise KeyboardInterrupt

    cache = Cache(tmp_path)
    with pytest.raises(ToolchainError):
        cache.fetch("key", failing, load)
    with pytest.raises(KeyboardInterrupt):
        cache.fetch("key", lambda: half, load)
    assert cache.size() == (0, 0) and not list((tmp_path / "staging").iterdir())
    assert cache.fetch("key", builder(), load)[0] == "built"  # the lock was released


def test_a_damaged_entry_is_built_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    _, entry = cache.fetch("key", builder(), load)
    entry.close()
    (entry.path / "file").write_text("damage")
    with pytest.warns(CacheWarning, match="damaged entry") as caught:
        result, entry = cache.fetch("key", builder("built anew"), load)
    assert result == "built anew" and entry.compiled
    assert caught[0].filename == __file__


def test_the_wrong_platform_is_no_damage(tmp_path: Path) -> None:
    def refuse(path: Path) -> str:
        raise PlatformError("no target fits")

    cache = Cache(tmp_path)
    cache.fetch("key", builder(), load)[1].close()
    with pytest.raises(PlatformError):
        cache.fetch("key", never, refuse)
    assert cache.fetch("key", never, load)[0] == "built"


def test_a_build_that_its_writer_refuses_is_an_error(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        raise ArtifactError("manifest: ill-formed")

    with pytest.raises(ArtifactError, match="ill-formed"):
        Cache(tmp_path).fetch("key", lambda: write, load)


def test_a_full_disk(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def write(path: Path) -> None:
        if tmp_path in path.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        builder()()(path)

    with pytest.warns(CacheWarning, match="No space left on device"):
        result, entry = cache.fetch("key", lambda: write, load)
    assert result == "built" and entry.temporary and entry.path.exists()
    entry.close()
    assert not entry.path.exists() and cache.size() == (0, 0)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(CacheWarning, match="cannot be written"):
        result, entry = Cache(tmp_path / "file" / "cache").fetch("key", builder(), load)
    assert result == "built" and entry.temporary
    with pytest.raises(CacheError, match="not a cache"):
        Cache(tmp_path / "file")


def test_a_read_only_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path).fetch("key", builder(), load)[1].close()

    def refuse(self: Cache, key: str, mode: int) -> int:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Cache, "_lock", refuse)
    assert Cache(tmp_path).fetch("key", never, load)[0] == "built"
    with pytest.warns(CacheWarning, match="Read-only file system"):
        assert Cache(tmp_path).fetch("other", builder("built other"), load)[0] == "built other"


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=1000)
    for age, key in ((300, "old"), (200, "older use"), (100, "new")):
        _, entry = cache.fetch(key.replace(" ", "-"), builder("built" + "x" * 295), load)
        entry.close()
        used = time.time() - age
        os.utime(entry.path, (used, used))
    cache.fetch("old", never, load)[1].close()  # is the most recently used now
    cache.fetch("newest", builder("built" + "x" * 295), load)[1].close()
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == {"old", "new", "newest"}


def test_entries_in_use_stay(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    _, held = cache.fetch("held", builder(), load)
    cache.fetch("free", builder(), load)[1].close()
    assert cache.evict(0) == 1 and held.path.exists()
    held.close()
    assert cache.evict(0) == 1 and not held.path.exists()
    assert not list((tmp_path / "locks").iterdir())


def test_left_overs_of_killed_builds_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.fetch("key", builder(), load)[1].close()
    (tmp_path / "staging" / "key.1-abc").mkdir()
    (tmp_path / "staging" / ".key.1-abc.1-def").mkdir()
    (tmp_path / "staging" / "object.999999999-abc").write_text("")
    cache.evict()
    assert not list((tmp_path / "staging").iterdir())


def test_objects(tmp_path: Path) -> None:
    cache, key = Cache(tmp_path), "ab" * 32
    assert cache.read_object(key) is None
    cache.write_object(key, b"code")
    assert cache.read_object(key) == b"code"
    (path,) = (tmp_path / "objects" / "ab").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert cache.read_object(key) is None
    cache.write_object(key, b"code")
    assert cache.read_object(key) == b"code" and cache.evict(0) == 1
    (tmp_path / "blocked").write_text("")
    Cache(tmp_path / "blocked" / "cache").write_object(key, b"code")  # nothing, and no error


def test_threads_build_once(tmp_path: Path) -> None:
    log: list[str] = []
    results: list[str] = []

    def slow() -> Write:
        time.sleep(0.1)
        return builder("built", log)()

    def work() -> None:
        result, entry = Cache(tmp_path).fetch("key", slow, load)
        results.append(result)
        entry.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["built"] * 8 and log == ["built"]


def _build_in_process(directory: str, log: str, start: object) -> None:
    def build() -> Write:
        with open(log, "a") as file:
            file.write("x")
        time.sleep(0.2)
        return builder()()

    start.wait()  # type: ignore[attr-defined]
    assert Cache(directory).fetch("key", build, load)[0] == "built"


def test_eight_processes_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, log = context.Event(), tmp_path / "log"
    arguments = (str(tmp_path / "cache"), str(log), start)
    children = [context.Process(target=_build_in_process, args=arguments) for _ in range(8)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 8 and log.read_text() == "x"


def test_a_killed_builder_frees_the_others(tmp_path: Path) -> None:
    script = """
        import sys, time
        from vitrify.cache import Cache
        def write(path):
            path.mkdir()
            print("writing", flush=True)
            time.sleep(60)
        Cache(sys.argv[1]).fetch("key", lambda: write, lambda path: None)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child.stdout:
        child.stdout.readline()
        child.kill()
        child.wait()
    result, entry = Cache(tmp_path).fetch("key", builder(), load)
    assert result == "built"
    entry.close()
    Cache(tmp_path).evict()
    assert not list((tmp_path / "staging").iterdir())


def test_a_forked_child_takes_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(CacheWarning):
        _, entry = Cache(tmp_path / "file" / "cache").fetch("key", builder(), load)
    child = multiprocessing.get_context("fork").Process(target=entry.close)
    child.start()
    child.join()
    assert child.exitcode == 0 and entry.path.exists()


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    monkeypatch.setenv(LIMIT_VARIABLE, "2.5")
    assert Cache().directory == tmp_path and Cache().limit == 2_500_000
    for bad in ("much", "-1", "nan"):
        monkeypatch.setenv(LIMIT_VARIABLE, bad)
        with pytest.raises(CacheError, match=LIMIT_VARIABLE):
            Cache()
    monkeypatch.delenv(DIRECTORY_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_directory() == Path("/somewhere/vitrify")
