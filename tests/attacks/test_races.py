"""Files that change while they are examined, loaded and run, in loops: what is used is what was signed, or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrify.artifact import folder as folders
from vitrify.artifact import payload as payloads
from vitrify.artifact.loading import Artifact, load_artifact
from vitrify.artifact.weights import Weights
from vitrify.errors import ArtifactError, ContainerError, IntegrityError, PlatformError, RaceError
from vitrify.runtime.run_options import RunOptions
from vitrify.runtime.session import Session

from . import forge
from .forge import LEAF, LEAVES, PAYLOAD, WEIGHTS

ROUNDS = 100


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an artifact may be, whose trust directory is in use."""
    path = tmp_path / "a.vit"
    forge.write_trust(path)
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(path)))
    return path


@pytest.fixture(scope="module")
def expected() -> np.ndarray[Any, Any]:
    weights = np.random.default_rng(5).standard_normal((forge.SIZE, forge.SIZE)).astype(np.float32)
    product: np.ndarray[Any, Any] = forge.FEED["x0"].astype(np.float64) @ weights
    return product


def other() -> dict[str, bytes]:
    """An artifact that is signed as well, but gives other results: all weights are 1."""
    parts = forge.base()
    parts.files[WEIGHTS] = np.ones(len(parts.files[WEIGHTS]) // 4, np.float32).tobytes()
    parts.list_leaves()
    parts.list_files()
    return parts.members()


def written_long_ago(place: Path) -> None:
    """The artifact as a directory. Clocks of files tick every few milliseconds: what was just written may be written
    again without another time."""
    forge.write_folder(place, forge.base().members())
    os.utime(place / WEIGHTS, (1e9, 1e9))


def fits(result: Any, expected: Any) -> bool:
    return bool(np.allclose(result, expected, rtol=1e-4, atol=1e-3))


@contextlib.contextmanager
def meanwhile(change: Callable[[], object]) -> Iterator[None]:
    """``change`` is called again and again on another thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                change()

    thread = threading.Thread(target=work)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # between any two calls to the system, if need be
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_the_file_is_exchanged(place: Path, expected: Any) -> None:
    """Two signed artifacts take turns at a path: each session is one of them, never a mixture."""
    both = [place.with_name("one"), place.with_name("two")]
    forge.write_file(both[0], forge.base().members())
    forge.write_file(both[1], other())
    shutil.copy(both[0], place)
    ones = forge.FEED["x0"].sum(1, keepdims=True) + np.zeros((3, forge.SIZE))
    turn = 0

    def exchange() -> None:
        nonlocal turn
        turn += 1
        fresh = place.with_name(f"fresh{turn % 4}")
        shutil.copy(both[turn % 2], fresh)
        os.replace(fresh, place)

    seen = set()
    with meanwhile(exchange):
        for _ in range(ROUNDS):
            result = Session(load_artifact(place)).run(None, forge.FEED)[0]
            assert fits(result, expected) or fits(result, ones)
            seen.add(fits(result, ones))
    assert turn


@pytest.mark.parametrize("name", [PAYLOAD, WEIGHTS, LEAVES, "manifest.json", "signature.json", "details.json"])
def test_a_file_of_a_folder_is_exchanged(place: Path, expected: Any, name: str) -> None:
    """A file, a link and a directory take turns: what loads is what was signed."""
    forge.write_folder(place, forge.base().members())
    content = (place / name).read_bytes()
    spare = place.with_name("spare")
    turn = 0

    def exchange() -> None:
        nonlocal turn
        turn += 1
        if turn % 4 == 0:
            spare.write_bytes(bytes(len(content)))
        elif turn % 4 == 1:
            spare.write_bytes(content)
        elif turn % 4 == 2:
            spare.write_bytes(content + b"x")
        else:
            spare.symlink_to("/etc/passwd")
        os.replace(spare, place / name)

    with meanwhile(exchange):
        for _ in range(ROUNDS):
            with contextlib.suppress(ArtifactError):
                assert fits(Session(load_artifact(place)).run(None, forge.FEED)[0], expected)
    assert turn


def test_a_folder_inside_is_exchanged(place: Path, expected: Any) -> None:
    """A directory and a link to one take turns."""
    forge.write_folder(place, forge.base().members())
    elsewhere = place.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / PAYLOAD.split("/")[1]).write_bytes(b"\x7fELF" + bytes(100))

    def exchange() -> None:
        (place / "payload").rename(place.with_name("kept"))
        (place / "payload").symlink_to(elsewhere)
        (place / "payload").unlink()
        place.with_name("kept").rename(place / "payload")

    with meanwhile(exchange):
        for _ in range(ROUNDS):
            with contextlib.suppress(ArtifactError):
                assert fits(Session(load_artifact(place)).run(None, forge.FEED)[0], expected)


@pytest.mark.parametrize("form", ["file", "folder"])
def test_a_payload_is_written_to_while_it_is_loaded(place: Path, expected: Any, form: str) -> None:
    """In place, by the same user: the loader gets the copy that was hashed, or nothing."""
    files = forge.base().members()
    (forge.write_file if form == "file" else forge.write_folder)(place, files)
    target = place if form == "file" else place / PAYLOAD
    start = target.read_bytes().index(files[PAYLOAD])
    turn = 0

    def write() -> None:
        nonlocal turn
        turn += 1
        with open(target, "r+b") as file:
            file.seek(start + 0x500)
            file.write(bytes(64) if turn % 2 else files[PAYLOAD][0x500 : 0x500 + 64])

    loaded = refused = 0
    with meanwhile(write):
        for _ in range(ROUNDS * 2):
            try:
                session = Session(load_artifact(place))
            except IntegrityError:
                refused += 1
                continue
            loaded += 1
            with contextlib.suppress(RaceError):
                assert fits(session.run(None, forge.FEED)[0], expected)
    assert loaded + refused == ROUNDS * 2


@pytest.mark.parametrize("at", [0, LEAF, -1])
def test_weights_written_to_before_the_first_run(place: Path, at: int) -> None:
    written_long_ago(place)
    for _ in range(5):
        session = Session(load_artifact(place))
        content = bytearray((place / WEIGHTS).read_bytes())
        content[at] ^= 1
        with open(place / WEIGHTS, "r+b") as file:
            file.write(content)
        for _ in range(2):  # a failure is not forgotten
            with pytest.raises(RaceError, match="changed since it was opened"):
                session.run(None, forge.FEED)
            with pytest.raises(RaceError):  # by the other ways to run, which come first to native code as well
                session.run(None, forge.FEED, RunOptions())
            with pytest.raises(RaceError):
                session.run_with_profiling(forge.FEED)
        content[at] ^= 1
        (place / WEIGHTS).write_bytes(content)
        os.utime(place / WEIGHTS, (1e9, 1e9))


def test_weights_that_become_shorter_before_the_first_run(place: Path) -> None:
    """Reading what is mapped and no longer there would end the process."""
    forge.write_folder(place, forge.base().members())
    session = Session(load_artifact(place))
    os.truncate(place / WEIGHTS, 100)
    with pytest.raises(RaceError):
        session.run(None, forge.FEED)


def test_weights_written_to_during_the_check(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that change after their leaf was hashed: the file's time tells."""
    written_long_ago(place)
    session = Session(load_artifact(place))
    from vitrify.artifact import weights

    plain = weights._in_parallel

    def then_write(work: Callable[[int], bool], count: int) -> bool:
        done = plain(work, count)
        with open(place / WEIGHTS, "r+b") as file:
            file.write(b"\1\2\3\4")
        return done

    monkeypatch.setattr(weights, "_in_parallel", then_write)
    with pytest.raises(RaceError, match="changed while it was examined"):
        session.run(None, forge.FEED)


def test_weights_exchanged_after_the_first_run(place: Path, expected: Any) -> None:
    """Another file in their place is not the one that is mapped, and its removal changes nothing."""
    forge.write_folder(place, forge.base().members())
    session = Session(load_artifact(place))
    first = session.run(None, forge.FEED)[0]
    shutil.rmtree(place)
    forge.write_folder(place, other())
    assert np.array_equal(session.run(None, forge.FEED)[0], first) and fits(first, expected)


def test_weights_written_to_after_the_first_run(place: Path) -> None:
    """Who may write to the file can do this: it is what docs/security.md excludes. A full check finds it."""
    forge.write_folder(place, forge.base().members())
    artifact = load_artifact(place)
    Session(artifact).run(None, forge.FEED)
    with open(place / WEIGHTS, "r+b") as file:
        file.write(b"\1\2\3\4")
    with pytest.raises(IntegrityError):
        artifact.verify()
    with pytest.raises(IntegrityError):
        Session(load_artifact(place)).run(None, forge.FEED)


@pytest.mark.parametrize("change", ["longer", "shorter", "linked", "gone", "writable"])
def test_a_file_changes_between_the_list_and_its_use(
    place: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.write_folder(place, forge.base().members())
    artifact = load_artifact(place)
    path = place / PAYLOAD
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    elif change == "shorter":
        os.truncate(path, 100)
    elif change == "linked":
        os.link(path, place.with_name("second"))
    elif change == "gone":
        path.unlink()
    else:
        path.chmod(0o666)
    with pytest.raises(ContainerError if change == "gone" else RaceError):
        Session(artifact)


def test_a_file_goes_while_the_directory_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge.write_folder(place, forge.base().members())
    scandir = os.scandir

    class Late:
        """Entries whose files are gone by the time they are looked at."""

        def __init__(self, folder: int) -> None:
            self._found = scandir(folder)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter([self._gone(item) for item in self._found])

        def __exit__(self, *_: object) -> None:
            self._found.close()

        def _gone(self, item: os.DirEntry[str]) -> os.DirEntry[str]:
            if item.is_file():
                (place / item.name).unlink()
            return item

    monkeypatch.setattr(folders.os, "scandir", Late)
    with pytest.raises(RaceError, match="went while the directory was read"):
        load_artifact(place)


def test_a_reused_descriptor_is_another_library(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader remembers libraries by name, and names have the descriptor's number in them: the number of a closed
    payload comes again, and must not bring the old library with it."""
    import _ctypes
    import ctypes

    from tests.artifact.gate.libraries import EXPORTED, library

    numbers, results, opened = set(), [], []
    for answer in range(4):
        image = library(
            "x86-64-v3", f"{EXPORTED}int vt_payload(int x) {{ return x + {answer}; }}", ("-z", "noexecstack")
        )
        path = place.with_name(f"library{answer}")
        path.write_bytes(image)
        fd = os.open(path, os.O_RDONLY)
        import hashlib

        made = payloads.Payload(fd, 0, len(image), hashlib.sha256(image).hexdigest(), str(path))
        os.close(fd)
        loaded = ctypes.CDLL(made.location)
        opened.append(loaded)
        address = ctypes.cast(loaded.vt_payload, ctypes.c_void_p).value
        assert address is not None
        numbers.add(made.fd)
        try:
            made.check_mapped(address)
        except RaceError:  # the loader gave the library that it remembered
            results.append(None)
        else:
            results.append(loaded.vt_payload(100))
        made.close()  # too early: the library stays loaded
    for loaded in opened:  # or sessions of later tests would be given it
        _ctypes.dlclose(loaded._handle)
    assert len(numbers) < 4  # a number did come again
    assert results[0] == 100 and all(found in (None, 100 + i) for i, found in enumerate(results))


def test_sessions_keep_their_descriptors(place: Path, expected: Any) -> None:
    """As long as a library is loaded, its number is not given to another file."""
    forge.write_file(place, forge.base().members())
    sessions = [Session(load_artifact(place)) for _ in range(3)]
    kept = [entry for entry in os.listdir("/proc/self/fd") if "memfd:payload" in _link(entry)]
    assert kept
    for entry in kept:
        assert not os.get_inheritable(int(entry))
    assert all(fits(session.run(None, forge.FEED)[0], expected) for session in sessions)


def _link(entry: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{entry}")
    except OSError:
        return ""


def test_what_is_mapped_is_checked_to_be_what_was_hashed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that is led to another file: nothing of it runs."""
    parts = forge.base()
    parts.files[PAYLOAD] = parts.files[PAYLOAD] + bytes(8)  # a library that no other test has loaded
    parts.list_files()
    forge.write_file(place, parts.members())
    artifact = load_artifact(place)
    plain = Artifact.payload

    def led_astray(self: Artifact, target: Any) -> Any:
        made = plain(self, target)
        copy = place.with_name("copy.so")
        copy.write_bytes(made.image)
        made.location = str(copy)
        return made

    monkeypatch.setattr(Artifact, "payload", led_astray)
    with pytest.raises(RaceError, match="mapped another file"):
        Session(artifact)


def test_a_library_that_the_system_refuses(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its loader has against what passed the gate."""
    parts = forge.base()
    parts.files[PAYLOAD] = parts.files[PAYLOAD] + bytes(16)
    parts.list_files()
    forge.write_file(place, parts.members())
    artifact = load_artifact(place)
    plain = Artifact.payload

    def elsewhere(self: Artifact, target: Any) -> Any:
        made = plain(self, target)
        made.location = str(place)
        return made

    monkeypatch.setattr(Artifact, "payload", elsewhere)
    with pytest.raises(PlatformError, match="the system cannot load it"):
        Session(artifact)


def test_weights_are_of_the_file_that_was_opened(place: Path) -> None:
    """The mapping belongs to the descriptor, whatever happens to names and descriptors later."""
    forge.write_folder(place, forge.base().members())
    artifact = load_artifact(place)
    found = artifact.weights(artifact.manifest.targets[0])
    assert isinstance(found, Weights)
    artifact.close()
    with open(place.with_name("noise"), "wb+") as noise:  # takes a number that was freed
        noise.write(bytes(1 << 18))
        found.check()
    assert bytes(found.data) == forge.base().files[WEIGHTS]
