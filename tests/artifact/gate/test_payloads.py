"""Payloads of every target: they pass, other parsers agree on what they are, and the same C gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lief
import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile

from vitrify.artifact.gate import elf, macho, opcodes, pe
from vitrify.artifact.gate.image import Image
from vitrify.artifact.leaks import scan
from vitrify.lower.target import TARGETS

from .libraries import EXPORTS, check, payload

LINUX = [name for name, target in TARGETS.items() if target.os == "linux"]
MACOS = [name for name, target in TARGETS.items() if target.os == "macos"]
LOCATION = {4: "HASH", 5: "STRTAB", 6: "SYMTAB", 7: "RELA", 0x6FFFFEF5: "GNU_HASH"}

BUILD = """
import sys
from tests.artifact.gate.libraries import payload
from vitrify.lower.target import TARGETS
import hashlib
for name in TARGETS:
    print(name, hashlib.sha256(payload(name)).hexdigest())
"""


@pytest.mark.parametrize("name", TARGETS)
def test_payloads_pass(name: str) -> None:
    image = payload(name)
    check(image, name)
    check(memoryview(image), name)  # type: ignore[arg-type]
    scan(image, name=name, also=(tempfile.gettempdir(), os.getcwd(), os.path.expanduser("~")))


def test_the_same_bytes_anywhere(tmp_path: Path) -> None:
    """In other directories, time zones, locales, with another umask, home and caches."""
    root = Path(__file__).parents[3]
    outputs = []
    for number, (zone, locale, umask) in enumerate((("UTC", "C", 0o022), ("Asia/Tokyo", "de_DE.UTF-8", 0o077))):
        home = tmp_path / f"{'x' * 20 * number}{number}"
        (home / "tmp").mkdir(parents=True)
        changed = {
            "TZ": zone, "LC_ALL": locale, "HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONHASHSEED": str(number),
            "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": os.pathsep.join((str(root), str(root / "src"))),
        }  # fmt: skip
        result = subprocess.run(
            [sys.executable, "-c", BUILD], cwd=home, env={**os.environ, **changed}, umask=umask,
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        outputs.append(result.stdout)
        assert not list((home / "tmp").iterdir())
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) == len(TARGETS)


@pytest.mark.parametrize("name", LINUX)
def test_pyelftools_agrees(name: str, tmp_path: Path) -> None:
    path = tmp_path / "library"
    path.write_bytes(payload(name))
    image = Image(payload(name), "lib")
    count = elf._header(image, TARGETS[name].arch)
    segments = elf._segments(image, count)
    loads = elf._loads(image, segments)
    tables = elf._dynamic(image, segments, loads)
    with path.open("rb") as stream:
        other = ELFFile(stream)
        fields = ("p_flags", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
        assert [s[1:] for s in segments] == [tuple(o[f] for f in fields) for o in other.iter_segments()]
        dynamic = next(s for s in other.iter_segments() if isinstance(s, DynamicSegment))
        tags = {str(t.entry.d_tag)[3:]: t.entry.d_val for t in dynamic.iter_tags()}
        assert tags.pop("NULL") == 0 and tags == tables
        assert [s.name for s in dynamic.iter_symbols()] == elf._symbols(image, tables, loads, EXPORTS)
        relocations = list(dynamic.get_relocation_tables()["RELA"].iter_relocations())
        assert len(relocations) == tables["RELASZ"] // 24
        assert {r["r_info_type"] for r in relocations} == {elf._RELATIVE[TARGETS[name].arch]}
        assert {r["r_info_sym"] for r in relocations} == {0}


@pytest.mark.parametrize("name", LINUX)
def test_lief_agrees_on_elf(name: str, tmp_path: Path) -> None:
    other = parsed(name, tmp_path)
    image = Image(payload(name), "lib")
    segments = elf._segments(image, elf._header(image, TARGETS[name].arch))
    assert [(s.offset, s.address, s.file_size, s.memory_size) for s in segments] == [
        (s.file_offset, s.virtual_address, s.physical_size, s.virtual_size) for s in other.segments
    ]
    tables = elf._dynamic(image, segments, elf._loads(image, segments))
    assert list(tables.values()) == [e.value for e in other.dynamic_entries if int(e.tag) != 0]
    assert [s.name for s in other.exported_symbols] == list(EXPORTS)
    assert not other.libraries and not list(other.imported_symbols) and other.entrypoint == 0
    assert len(other.relocations) == tables["RELASZ"] // 24


def test_lief_agrees_on_pe(tmp_path: Path) -> None:
    other = parsed("windows-x86_64", tmp_path)
    image = Image(payload("windows-x86_64"), "lib")
    sections, directories = pe._headers(image)
    assert [(s.address, s.memory_size, s.offset, s.file_size, s.kind) for s in sections] == [
        (s.virtual_address, s.virtual_size, s.offset, s.size, s.characteristics) for s in other.sections
    ]
    assert directories == [(d.rva, d.size) for d in other.data_directories]
    assert [e.name for e in other.get_export().entries] == list(EXPORTS)
    assert not list(other.imports) and not other.has_tls and not other.signatures
    assert other.optional_header.addressof_entrypoint == 0


@pytest.mark.parametrize("name", MACOS)
def test_lief_agrees_on_macho(name: str, tmp_path: Path) -> None:
    other = parsed(name, tmp_path)
    image = Image(payload(name), "lib")
    commands = macho._commands(image, TARGETS[name].arch)
    assert [(at, size) for _, at, size in commands] == [(c.command_offset, c.size) for c in other.commands]
    segments, sections = macho._segments(image, commands, TARGETS[name].arch)
    assert [tuple(s) for s in segments] == [
        (s.name, s.virtual_address, s.virtual_size, s.file_offset, s.file_size, s.init_protection)
        for s in other.segments
    ]
    assert sections == [(s.virtual_address, s.size) for s in other.sections]
    info = other.dyld_info
    found = opcodes.exported(image, *info.export_info)
    assert found == {e.symbol.name: e.address for e in info.exports}
    assert set(found) - macho._LINKER_DEFINED == {f"_{export}" for export in EXPORTS}
    assert [b.symbol.name for b in info.bindings] == ["dyld_stub_binder"]
    assert [library.name for library in other.libraries] == ["@rpath/payload", "/usr/lib/libSystem.B.dylib"]


def parsed(name: str, folder: Path) -> Any:
    """What LIEF reads."""
    path = folder / "library"
    path.write_bytes(payload(name))
    found = lief.parse(str(path))
    assert found is not None
    return found
