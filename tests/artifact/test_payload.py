"""Payloads between their file and the loader: nothing changes them any more."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
from pathlib import Path

import pytest

from vitrify.artifact.payload import Payload
from vitrify.errors import IntegrityError, RaceError

CONTENT = os.urandom(5000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"before" + CONTENT + b"after")
    return path


def payload(path: Path, size: int = len(CONTENT), digest: str = hashlib.sha256(CONTENT).hexdigest()) -> Payload:
    fd = os.open(path, os.O_RDONLY)
    try:
        return Payload(fd, 6, size, digest, str(path))
    finally:
        os.close(fd)


def test_the_copy_cannot_change(file: Path) -> None:
    made = payload(file)
    file.write_bytes(b"other")
    assert Path(made.location).read_bytes() == made.image == CONTENT
    for change in (
        lambda: os.pwrite(made.fd, b"x", 0),
        lambda: os.ftruncate(made.fd, 1),
        lambda: os.ftruncate(made.fd, 9000),
        lambda: mmap.mmap(made.fd, 0, prot=mmap.PROT_WRITE | mmap.PROT_READ),
    ):
        with pytest.raises(OSError):
            change()
    with pytest.raises(OSError), open(made.location, "r+b") as again:
        again.write(b"x")


def test_other_bytes_are_refused(file: Path) -> None:
    with pytest.raises(IntegrityError):
        payload(file, digest="0" * 64)
    with pytest.raises(IntegrityError):
        payload(file, size=len(CONTENT) - 1)
    with pytest.raises(RaceError):
        payload(file, size=len(CONTENT) + 100)


def test_descriptors_are_closed(file: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    made = payload(file)
    with pytest.raises(IntegrityError):
        payload(file, digest="0" * 64)
    made.close()
    made.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_no_file_in_memory_can_be_had(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(name: str, flags: int) -> int:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    made = payload(file)
    copy = Path(made.location)
    assert copy.read_bytes() == CONTENT
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    made.close()
    assert not copy.parent.exists()
    with pytest.raises(IntegrityError):
        payload(file, digest="0" * 64)
    assert os.listdir(tmp_path) == ["file"]


def test_a_copy_that_stays_open_to_change(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that does not seal as it was told."""
    import fcntl

    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command, *argument: 0)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RaceError, match="cannot be sealed"):
        payload(file)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_mapping_is_checked() -> None:
    import _struct  # any library that is mapped from a file

    libc = ctypes.CDLL(None)
    address = ctypes.cast(libc.getpid, ctypes.c_void_p).value
    assert address is not None
    with open("/proc/self/maps") as maps:
        own = next(
            line.split()[5] for line in maps
            if int(line.split("-")[0], 16) <= address < int(line.split()[0].split("-")[1], 16)
        )  # fmt: skip
    right, other = Path(own).read_bytes(), Path(_struct.__file__).read_bytes()
    for content in (right, other):  # the same bytes in another file are another file
        fd = os.memfd_create("test")
        os.write(fd, content)
        made = Payload(fd, 0, len(content), hashlib.sha256(content).hexdigest(), "test")
        os.close(fd)
        with pytest.raises(RaceError):
            made.check_mapped(address)
        made.close()
