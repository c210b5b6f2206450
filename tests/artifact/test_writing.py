"""Artifacts written and opened: whole or not at all, as one file and as a directory."""

from __future__ import annotations

import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from vitrify.artifact import writing
from vitrify.artifact.loading import load_artifact, open_artifact
from vitrify.artifact.manifest import Manifest, Meta, Port, Target
from vitrify.artifact.trust.keys import Signer
from vitrify.artifact.trust.policy import seal_policy
from vitrify.artifact.trust.store import Store, TrustWarning, own_policy
from vitrify.artifact.writing import Sealing, copy_artifact, write_artifact
from vitrify.errors import (
    ArtifactError,
    ContainerError,
    IntegrityError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
)

from .gate.libraries import payload

PAYLOAD, WEIGHTS, LEAVES = "payload/x86-64-v3.so", "weights/x86-64-v3.bin", "leaves/x86-64-v3"
BYTES = random.Random(3).randbytes((3 << 20) + 17)
FILES = ["details.json", LEAVES, "manifest.json", PAYLOAD, "signature.json", WEIGHTS]
TARGET = Target("x86-64-v3", (), PAYLOAD, WEIGHTS, 0, 0, 0)
CODE = payload("x86-64-v3")
FORMS = ["a", "a.vit"]


def manifest() -> Manifest:
    port = (Port("x", "f32", (1,)),)
    return Manifest("0.1.0", "ab" * 32, Meta(), port, port, (TARGET,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "trust"))


def write(path: Path, store: Store, weights: bytes = BYTES, **options: Any) -> None:
    write_artifact(path, manifest(), {PAYLOAD: CODE, WEIGHTS: weights}, trust=store, **options).close()


def tree(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_what_is_loaded(tmp_path: Path, store: Store, form: str) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(BYTES)
    path = tmp_path / "deep" / form
    made = write_artifact(path, manifest(), {PAYLOAD: CODE, WEIGHTS: source}, trust=store)
    loaded = load_artifact(path, trust=store, require_digest=made.digest)
    assert loaded.manifest == made.manifest and loaded.path == made.path == str(path)
    assert loaded.signers == {store.machine_key().id}
    weights = loaded.weights(loaded.manifest.targets[0])
    assert weights is not None
    weights.check()
    assert weights.data == BYTES
    assert loaded.payload(loaded.manifest.targets[0]).image == CODE
    loaded.verify()
    assert os.listdir(tmp_path / "deep") == [form]
    if path.is_dir():
        assert tree(path) == FILES
    else:
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == FILES and archive.testzip() is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 20 << 20])
def test_sizes_around_a_leaf(tmp_path: Path, store: Store, form: str, size: int) -> None:
    weights = BYTES * (size // len(BYTES)) + BYTES[: size % len(BYTES)]
    write(tmp_path / form, store, weights)
    loaded = load_artifact(tmp_path / form, trust=store)
    found = loaded.weights(loaded.manifest.targets[0])
    assert found is not None
    found.check()
    assert found.data == weights


def test_the_same_artifact_in_both_forms(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "a", store)
    first = load_artifact(tmp_path / "a", trust=store)
    copy_artifact(first, tmp_path / "b.vit")
    second = load_artifact(tmp_path / "b.vit", trust=store, require_digest=first.digest)
    copy_artifact(second, tmp_path / "c")
    assert tree(tmp_path / "c") == FILES
    assert all((tmp_path / "c" / name).read_bytes() == (tmp_path / "a" / name).read_bytes() for name in FILES)


def test_writing_is_reproducible(tmp_path: Path, store: Store) -> None:
    for name in ("a.vit", "b.vit"):
        write(tmp_path / name, store)
    assert (tmp_path / "a.vit").read_bytes() == (tmp_path / "b.vit").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_each_file(tmp_path: Path, store: Store, name: str) -> None:
    write(tmp_path / "a", store)
    path = tmp_path / "a" / name
    content = bytearray(path.read_bytes())
    for at in (0, len(content) // 2, len(content) - 1):
        content[at] ^= 4
        path.write_bytes(content)
        with pytest.raises((IntegrityError, SignatureError, ArtifactError)) as caught:
            load_artifact(tmp_path / "a", trust=store).verify()
        if name not in ("manifest.json", "signature.json"):
            assert isinstance(caught.value, IntegrityError)
        content[at] ^= 4
    path.write_bytes(content)
    load_artifact(tmp_path / "a", trust=store).verify()


def test_weights_are_compared_before_they_are_used_not_before(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "a.vit", store)
    archive = open_artifact(tmp_path / "a.vit")
    _, start = archive.source.locate(WEIGHTS)
    with open(tmp_path / "a.vit", "r+b") as file:
        file.seek(start + 100_000)
        file.write(b"\0\1\2")
    loaded = load_artifact(tmp_path / "a.vit", trust=store)
    weights = loaded.weights(loaded.manifest.targets[0])
    assert weights is not None
    with pytest.raises(IntegrityError, match="leaf 1 "):
        weights.check()
    with pytest.raises(IntegrityError):
        loaded.verify()


def test_damage_to_the_directory(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a"

    def refused(kind: type[ArtifactError], match: str) -> None:
        with pytest.raises(kind, match=match):
            load_artifact(path, trust=store).verify()

    refused(ContainerError, "cannot be opened")
    write(path, store)
    (path / "extra").write_bytes(b"")
    refused(IntegrityError, r"unlisted \['extra'\]")
    (path / "extra").unlink()
    (path / PAYLOAD).rename(tmp_path / "kept")
    refused(IntegrityError, f"missing \\['{PAYLOAD}'\\]")
    (path / PAYLOAD).symlink_to(tmp_path / "kept")
    refused(ContainerError, "regular file")
    (path / PAYLOAD).unlink()
    (path / PAYLOAD).mkdir()
    refused(ContainerError, "regular file")
    (path / PAYLOAD).rmdir()
    os.mkfifo(path / PAYLOAD)
    refused(ContainerError, "regular file")
    (path / PAYLOAD).unlink()
    (path / PAYLOAD).write_bytes(CODE[:-1])
    refused(IntegrityError, "wrong size")
    (path / PAYLOAD).write_bytes(CODE[:-1] + b"x")
    refused(IntegrityError, "not what was signed")
    (path / PAYLOAD).write_bytes(CODE)
    load_artifact(path, trust=store).verify()
    (path / "signature.json").rename(tmp_path / "signature.json")
    refused(UnsignedError, "nobody signed")
    (tmp_path / "signature.json").rename(path / "signature.json")
    (path / "manifest.json").unlink()
    refused(ContainerError, "not an artifact")


def test_the_signature_of_another_artifact(tmp_path: Path, store: Store) -> None:
    write(tmp_path / "a", store)
    write(tmp_path / "b", store, b"other")
    os.replace(tmp_path / "a" / "signature.json", tmp_path / "b" / "signature.json")
    with pytest.raises(SignatureError, match="another manifest"):
        load_artifact(tmp_path / "b", trust=store)


def test_who_signed(tmp_path: Path, store: Store) -> None:
    one, two = Signer.generate(), Signer.generate()
    here = Store(str(tmp_path / "one"))
    here.install(seal_policy(own_policy(one.public)._replace(version=1), [one]))
    write(tmp_path / "a", here, signers=[one, two])
    assert load_artifact(tmp_path / "a", trust=here).signers == {one.id}
    with pytest.raises(UntrustedKeyError):
        load_artifact(tmp_path / "a", trust=store)
    with pytest.raises(IntegrityError, match="another artifact"):
        load_artifact(tmp_path / "a", trust=here, require_digest="ab" * 32)


def test_unsigned_artifacts_load_only_for_development(tmp_path: Path, store: Store) -> None:
    with pytest.raises(UnsignedError):
        write(tmp_path / "a", store, signers=[])
    assert sorted(os.listdir(tmp_path / "a")) == ["details.json", "leaves", "manifest.json", "payload", "weights"]
    key = store.machine_key()
    store.install(seal_policy(own_policy(key.public)._replace(version=1, development=True), [key]))
    for _ in range(2):
        with pytest.warns(TrustWarning, match="anybody may have made it"):
            assert load_artifact(tmp_path / "a", trust=store).seal is None


def test_what_the_signature_says(tmp_path: Path, store: Store) -> None:
    sealing = Sealing("speech", 4, 1000, None, "MIT")
    write(tmp_path / "a", store, sealing=sealing)
    seal = load_artifact(tmp_path / "a", trust=store).seal
    assert seal is not None and seal[1:4] == ("speech", 4, 1000) and seal.licence == "MIT"
    assert store.state().releases == {"speech": 4}
    write(tmp_path / "b", store, sealing=Sealing("speech", 5))
    with pytest.raises(ArtifactError, match="released later"):
        load_artifact(tmp_path / "a", trust=store)


@pytest.mark.parametrize("form", FORMS)
def test_existing_paths(tmp_path: Path, store: Store, form: str) -> None:
    write(tmp_path / form, store, b"old")
    with pytest.raises(ArtifactError, match="already exists"):
        write(tmp_path / form, store, b"new")
    write(tmp_path / form, store, b"new", replace=True)
    loaded = load_artifact(tmp_path / form, trust=store)
    weights = loaded.weights(loaded.manifest.targets[0])
    assert weights is not None and weights.data == b"new"
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis").write_text("years of work")
    (tmp_path / "letter.vit").write_text("dear")
    for path in ("documents", "letter.vit"):
        with pytest.raises(ArtifactError, match="only an artifact is ever replaced"):
            write(tmp_path / path, store, replace=True)
    assert (tmp_path / "documents" / "thesis").read_text() == "years of work"
    assert (tmp_path / "letter.vit").read_text() == "dear"
    assert sorted(os.listdir(tmp_path)) == sorted([form, "documents", "letter.vit", "trust"])


@pytest.mark.parametrize("form", FORMS)
def test_an_old_mapping_survives_replacement(tmp_path: Path, store: Store, form: str) -> None:
    write(tmp_path / form, store)
    loaded = load_artifact(tmp_path / form, trust=store)
    old = loaded.weights(loaded.manifest.targets[0])
    write(tmp_path / form, store, b"new", replace=True)
    assert old is not None
    old.check()
    assert old.data == BYTES


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "files",
    [
        {PAYLOAD: CODE},
        {PAYLOAD: CODE, WEIGHTS: b"", "more": b""},
        {PAYLOAD: CODE, WEIGHTS: b"", "../evil": b""},
        {PAYLOAD: CODE, WEIGHTS: Path("/nonexistent/file")},
    ],
)
def test_a_failed_write_leaves_nothing(tmp_path: Path, store: Store, files: dict[str, Any], form: str) -> None:
    with pytest.raises(ArtifactError):
        write_artifact(tmp_path / form, manifest(), files, trust=store)
    assert set(os.listdir(tmp_path)) <= {"trust"}


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, store: Store, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writing.os, "fsync", interrupt)
    store.directory = str(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / form, store, signers=[])
    assert os.listdir(tmp_path) == []


def test_an_unwritable_place(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write(tmp_path / "file" / "a", store)


@pytest.mark.parametrize("form", FORMS)
def test_files_are_closed(tmp_path: Path, store: Store, form: str) -> None:
    write(tmp_path / form, store)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        load_artifact(tmp_path / form, trust=store).verify()
    assert len(os.listdir("/proc/self/fd")) == before
