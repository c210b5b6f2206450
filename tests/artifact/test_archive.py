"""The one file of an artifact, and its directory form: one valid encoding, and nothing else opens."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.artifact.archive import Archive
from vitrify.artifact.container import MAP_ALIGNMENT, Entry, check_place, places, read_exactly, write_archive
from vitrify.artifact.folder import Folder
from vitrify.errors import ContainerError, LimitError, RaceError

CONTENTS = {"manifest.json": b"{}", "payload/v4.so": b"\x7fELF" * 7, "weights/v4.bin": bytes(range(256)), "empty": b""}


def packed(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    write_archive(file, {n: (Entry(n, len(c), zlib.crc32(c)), [c]) for n, c in contents.items()})
    return file.getvalue()


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], str]:
    def write(encoded: bytes) -> str:
        path = tmp_path / "a.vit"
        path.write_bytes(encoded)
        return str(path)

    return write


def test_what_is_written_is_read(save: Callable[[bytes], str]) -> None:
    archive = Archive(save(packed(CONTENTS)))
    assert {name: archive.read(name) for name in archive.entries} == CONTENTS
    assert archive.locate("weights/v4.bin")[1] % MAP_ALIGNMENT == 0
    archive.close()


def test_other_programs_read_it(save: Callable[[bytes], str], tmp_path: Path) -> None:
    path = save(packed(CONTENTS))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENTS
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", path, str(out)], check=True)
    folder = Folder(str(out))
    assert {name: folder.read(name) for name in folder.entries} == CONTENTS
    folder.close()


def test_every_byte_that_is_no_content_is_checked(save: Callable[[bytes], str]) -> None:
    encoded = packed(CONTENTS)
    found, _ = places([Entry(n, len(c), zlib.crc32(c)) for n, c in CONTENTS.items()])
    content = {at for place in found for at in range(place.data, place.data + place.entry.size)}
    # most of the bytes are the zeros before the weights: one in 257 of these is enough
    checked = [i for i in range(len(encoded)) if i not in content and (encoded[i] or i % 257 == 0)]
    for i in checked:
        for bit in (1, 0x80):
            changed = bytearray(encoded)
            changed[i] ^= bit
            with pytest.raises((ContainerError, LimitError)):
                Archive(save(bytes(changed))).close()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,9}(/[a-z0-9]{1,9})?", fullmatch=True), st.binary()))
def test_any_members(contents: dict[str, bytes]) -> None:
    if {n.split("/")[0] for n in contents if "/" in n} & contents.keys():
        with pytest.raises(ContainerError, match="folder"):
            packed(contents)
        return
    encoded = packed(contents)
    path = f"/proc/self/fd/{_in_memory(encoded)}"
    fd = int(path.rsplit("/", 1)[1])
    try:
        with open(path, "rb") as file:
            assert file.read() == encoded
        with zipfile.ZipFile(path) as archive:
            assert {n: archive.read(n) for n in archive.namelist()} == contents
    finally:
        os.close(fd)


def _in_memory(data: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "a.vit"
    path.write_bytes(data)
    with pytest.raises(ContainerError):
        Archive(str(path))


def crafted(write: Callable[[zipfile.ZipFile], None]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        write(archive)
    return file.getvalue()


def duplicate(archive: zipfile.ZipFile) -> None:
    archive.writestr("a", "1")
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", "2")


ZIP64_END = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
FORGED: dict[str, Callable[[], bytes]] = {
    "empty file": lambda: b"",
    "prefix": lambda: b"#!/bin/sh\n" + packed(CONTENTS),
    "trailing byte": lambda: packed(CONTENTS) + b"\0",
    "two end records": lambda: packed(CONTENTS) + packed({}),
    "truncated": lambda: packed(CONTENTS)[:-1],
    "as zipfile writes it": lambda: crafted(lambda a: a.writestr("a", "1")),
    "compressed": lambda: crafted(lambda a: a.writestr("a", "1" * 99, zipfile.ZIP_DEFLATED)),
    "duplicate name": lambda: crafted(duplicate),
    "comment": lambda: crafted(lambda a: setattr(a, "comment", b"hello")),
    "zip64 end": lambda: packed(CONTENTS)[:-22] + ZIP64_END,
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_forged_archives(name: str, save: Callable[[bytes], str]) -> None:
    with pytest.raises((ContainerError, LimitError)):
        Archive(save(FORGED[name]()))


@pytest.mark.parametrize(
    "name",
    [
        "../a", "/a", "a/../b", "a//b", "a/", "", ".", "..", "C:a", "a\\b", "A", "é", "e\u0301", "a\0", "a/b/c",
        "-a", "a b", "a" * 201,
    ],
)  # fmt: skip
def test_names_that_no_member_has(name: str, save: Callable[[bytes], str]) -> None:
    with pytest.raises(ContainerError):
        packed({name: b""})
    raw = name.encode("utf-8")
    encoded = packed({"x" * max(len(raw), 1): b""}) if len(raw) <= 200 else b""
    if len(raw) and encoded:  # the same name by another writer
        with pytest.raises(ContainerError):
            Archive(save(encoded.replace(b"x" * len(raw), raw)))


def test_files_that_are_no_regular_files(tmp_path: Path) -> None:
    (tmp_path / "real.vit").write_bytes(packed(CONTENTS))
    (tmp_path / "link.vit").symlink_to("real.vit")
    os.mkfifo(tmp_path / "pipe.vit")
    for path in ("link.vit", "pipe.vit", "missing.vit", ""):
        with pytest.raises(ContainerError):
            Archive(str(tmp_path / path))
    with pytest.raises(ContainerError):
        Archive("/dev/zero")


def test_folders_with_anything_else_in_them(tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        made = tmp_path / name
        (made / "payload").mkdir(parents=True)
        (made / "payload" / "v4.so").write_bytes(b"1")
        return made

    good = Folder(str(folder("good")))
    assert list(good.entries) == ["payload/v4.so"]
    good.close()
    (folder("link") / "b").symlink_to("payload/v4.so")
    os.link(tmp_path / "link" / "payload" / "v4.so", folder("hard") / "b")
    os.mkfifo(folder("pipe") / "b")
    (folder("upper") / "B").write_bytes(b"")
    (folder("deep") / "payload" / "x" / "y").mkdir(parents=True)
    (folder("linked") / "weights").symlink_to(tmp_path)
    for name in ("link", "hard", "pipe", "upper", "deep", "linked", "missing"):
        with pytest.raises(ContainerError):
            Folder(str(tmp_path / name))


def test_a_file_that_becomes_shorter(save: Callable[[bytes], str]) -> None:
    path = save(packed(CONTENTS))
    archive = Archive(path)
    os.truncate(path, 70)
    with pytest.raises(RaceError):
        archive.read("payload/v4.so")
    archive.close()


def test_too_many_members_are_not_written() -> None:
    with pytest.raises(LimitError):
        packed({f"m{i}": b"" for i in range(4097)})


def test_contents_of_another_size_are_not_written() -> None:
    with pytest.raises(ContainerError, match="wrong size"):
        write_archive(io.BytesIO(), {"a": (Entry("a", 3, 0), [b"four"])})
    with pytest.raises(LimitError, match="too large for one file"):
        write_archive(io.BytesIO(), {"a": (Entry("a", 1 << 32, 0), [])})


def test_what_cannot_be_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ContainerError, match="cannot be read"):
        read_exactly(fd, 0, 1, "a directory")
    os.close(fd)
    with pytest.raises(ContainerError, match="cannot be opened"):
        check_place(str(tmp_path / "missing" / "a.vit"))


def test_a_folder_that_becomes_a_link(tmp_path: Path) -> None:
    (tmp_path / "a" / "payload").mkdir(parents=True)
    (tmp_path / "a" / "payload" / "v4.so").write_bytes(b"1")
    folder = Folder(str(tmp_path / "a"))
    (tmp_path / "a" / "payload").rename(tmp_path / "kept")
    (tmp_path / "a" / "payload").symlink_to(tmp_path / "kept")
    with pytest.raises(ContainerError, match="a directory that is no link"):
        folder.locate("payload/v4.so")
    folder.close()
