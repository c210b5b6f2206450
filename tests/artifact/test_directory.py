from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from vitrify.artifact import directory
from vitrify.artifact.directory import load_artifact, write_artifact
from vitrify.artifact.manifest import Manifest, Meta, Port, Target
from vitrify.errors import ArtifactError

MIB = 1 << 20
PAYLOAD, WEIGHTS = "payload-x86-64-v3.so", "weights-x86-64-v3.bin"
BYTES = random.Random(3).randbytes(3 * MIB + 17)


def manifest() -> Manifest:
    port = (Port("x", "f32", (1,)),)
    target = Target("x86-64-v3", (), PAYLOAD, WEIGHTS, 0, 0, 0)
    return Manifest("0.1.0", Meta(), port, port, (target,))


def write(path: Path, weights: bytes = BYTES) -> None:
    write_artifact(path, manifest(), {PAYLOAD: b"payload", WEIGHTS: weights})


def test_what_is_written_is_what_is_loaded(tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(BYTES)
    made = write_artifact(tmp_path / "deep" / "model.vit", manifest(), {PAYLOAD: b"payload", WEIGHTS: source})
    loaded = load_artifact(tmp_path / "deep" / "model.vit")
    assert loaded.manifest == made.manifest and loaded.path == made.path
    assert bytes(loaded.map(WEIGHTS).data) == BYTES and bytes(loaded.map(PAYLOAD).data) == b"payload"
    loaded.verify()
    assert sorted(os.listdir(tmp_path / "deep")) == ["model.vit"]
    assert sorted(os.listdir(loaded.path)) == ["manifest.json", PAYLOAD, WEIGHTS]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 20 * MIB])
def test_sizes_around_a_leaf(tmp_path: Path, size: int) -> None:
    weights = BYTES * (size // len(BYTES)) + BYTES[: size % len(BYTES)]
    write(tmp_path / "a", weights)
    assert bytes(load_artifact(tmp_path / "a").map(WEIGHTS).data) == weights


@pytest.mark.parametrize("position", [0, MIB - 1, MIB, 2 * MIB + 5, len(BYTES) - 1])
def test_a_flipped_bit(tmp_path: Path, position: int) -> None:
    write(tmp_path / "a")
    with open(tmp_path / "a" / WEIGHTS, "r+b") as file:
        file.seek(position)
        file.write(bytes([BYTES[position] ^ 4]))
    loaded = load_artifact(tmp_path / "a")
    for check in (loaded.verify, lambda: loaded.map(WEIGHTS)):
        with pytest.raises(ArtifactError, match=f"MiB {position // MIB} differs"):
            check()
    loaded.map(PAYLOAD)


def test_a_flipped_bit_among_many_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    weights = bytearray(30 * MIB)
    write(tmp_path / "a", bytes(weights))
    with open(tmp_path / "a" / WEIGHTS, "r+b") as file:
        file.seek(23 * MIB + 1)
        file.write(b"\1")
    with pytest.raises(ArtifactError, match="MiB 23 differs"):
        load_artifact(tmp_path / "a").verify()


def test_damage_to_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "a"

    def refused(match: str) -> None:
        with pytest.raises(ArtifactError, match=match):
            load_artifact(path).verify()

    refused("not an artifact")
    write(path)
    (path / "extra").write_bytes(b"")
    refused(r"unlisted \['extra'\]")
    (path / "extra").unlink()
    (path / "folder").mkdir()
    refused(r"unlisted \['folder'\]")
    (path / "folder").rmdir()
    (path / PAYLOAD).rename(tmp_path / "kept")
    refused(f"missing \\['{PAYLOAD}'\\]")
    (path / PAYLOAD).symlink_to(tmp_path / "kept")
    refused("wrong size|cannot be opened")
    (path / PAYLOAD).unlink()
    (path / PAYLOAD).mkdir()
    refused("wrong size|not a regular file")
    (path / PAYLOAD).rmdir()
    os.mkfifo(path / PAYLOAD)
    refused("wrong size|not a regular file")
    (path / PAYLOAD).unlink()
    (path / PAYLOAD).write_bytes(b"payloa")
    refused("wrong size")
    (path / PAYLOAD).write_bytes(b"payloax")
    refused("MiB 0 differs")
    (path / PAYLOAD).write_bytes(b"payload")
    load_artifact(path).verify()
    (path / "manifest.json").unlink()
    refused("not an artifact")


def test_a_file_is_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="not an artifact"):
        load_artifact(tmp_path / "a")


def test_a_file_that_shrinks_after_loading(tmp_path: Path) -> None:
    write(tmp_path / "a")
    loaded = load_artifact(tmp_path / "a")
    os.truncate(tmp_path / "a" / WEIGHTS, 5)
    with pytest.raises(ArtifactError, match="wrong size"):
        loaded.map(WEIGHTS)


def test_existing_paths(tmp_path: Path) -> None:
    write(tmp_path / "a", b"old")
    with pytest.raises(ArtifactError, match="already exists"):
        write(tmp_path / "a", b"new")
    files = {PAYLOAD: b"payload", WEIGHTS: b"new"}
    write_artifact(tmp_path / "a", manifest(), files, replace=True)
    assert bytes(load_artifact(tmp_path / "a").map(WEIGHTS).data) == b"new"
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis").write_text("years of work")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_artifact(tmp_path / "documents", manifest(), files, replace=True)
    assert (tmp_path / "documents" / "thesis").read_text() == "years of work"
    assert sorted(os.listdir(tmp_path)) == ["a", "documents"]


def test_an_old_mapping_survives_replacement(tmp_path: Path) -> None:
    write(tmp_path / "a", BYTES)
    old = load_artifact(tmp_path / "a").map(WEIGHTS)
    write_artifact(tmp_path / "a", manifest(), {PAYLOAD: b"payload", WEIGHTS: b"new"}, replace=True)
    assert bytes(old.data) == BYTES


@pytest.mark.parametrize(
    "files",
    [
        {PAYLOAD: b"payload"},
        {PAYLOAD: b"payload", WEIGHTS: b"", "more": b""},
        {PAYLOAD: b"payload", WEIGHTS: b"", "../evil": b""},
        {PAYLOAD: b"payload", WEIGHTS: b"", "manifest.json": b"{}"},
        {PAYLOAD: b"payload", WEIGHTS: Path("/nonexistent/file")},
    ],
)
def test_a_failed_write_leaves_nothing(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(ArtifactError):
        write_artifact(tmp_path / "a", manifest(), files)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(directory, "encode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_an_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / "file" / "a")


def test_files_are_closed(tmp_path: Path) -> None:
    write(tmp_path / "a")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        load_artifact(tmp_path / "a").verify()
    assert len(os.listdir("/proc/self/fd")) == before
