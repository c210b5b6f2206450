"""What fuzzers feed to the parsers of sealed artifacts, and what has to hold: a refusal, or the same bytes again.

``python -m tests.attacks.fuzz TARGET SECONDS [FOLDER]`` runs atheris, guided by coverage, on one target, from the seeds
and from what is in FOLDER, which gets what is new.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from vitrify.artifact import canonical, manifest
from vitrify.artifact.archive import Archive
from vitrify.artifact.container import Entry, write_archive
from vitrify.artifact.gate import Platform, examine
from vitrify.artifact.leaks import scan
from vitrify.artifact.trust import envelope, policy
from vitrify.errors import ArtifactError

from . import forge

SEEDS = Path(__file__).parent / "seeds"


def container(data: bytes) -> None:
    """An archive: what opens is written again as it was."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.vit")
        Path(path).write_bytes(data)
        archive = Archive(path)
        members = {name: (entry, [archive.read(name)]) for name, entry in archive.entries.items()}
        archive.close()
        again = io.BytesIO()
        write_archive(again, {name: (Entry(*entry), content) for name, (entry, content) in members.items()})
        assert again.getvalue() == data


def document(data: bytes) -> None:
    """Canonical JSON: what is read is written as it was."""
    assert canonical.dumps(canonical.loads(data, what="it", limit=1 << 20)) == data


def manifests(data: bytes) -> None:
    """The manifest, a line of zeros, and details; the manifest's own entry of details is believed."""
    first, _, second = data.partition(b"\0\0")
    found = manifest.parse(first, lambda entry: second)
    assert manifest.encode(found) == first


def details(data: bytes) -> None:
    """Details under a manifest that is right."""
    found = manifest.parse(forge.dumps(forge.base().manifest), lambda entry: data)
    assert manifest.encode_details(found) == data


def envelopes(data: bytes) -> None:
    """An envelope with a statement: what is read is written as it was."""
    signed = envelope.open_envelope(data, envelope.STATEMENT_TYPE)
    again = envelope.sign(envelope.STATEMENT_TYPE, signed.payload, [], signed.signatures)
    if [*signed.signatures] == sorted(signed.signatures):
        assert again == data
    assert envelope.statement(envelope.parse_statement(signed.payload)) == signed.payload


def policies(data: bytes) -> None:
    """A policy: what is read is written as it was."""
    assert policy.encode(policy.parse(data)) == data


def native(data: bytes) -> None:
    """A library for any platform, to the gate and the scan for paths."""
    for platform in (
        Platform("linux", "x86_64"), Platform("linux", "aarch64"), Platform("macos", "aarch64"),
        Platform("windows", "x86_64"),
    ):  # fmt: skip
        try:
            examine(data, platform, ("vt_payload",), path="it")
        except ArtifactError as error:
            assert str(error)
    scan(data, name="it")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "container": container, "document": document, "manifests": manifests, "details": details, "envelopes": envelopes,
    "policies": policies, "native": native,
}  # fmt: skip


def meet(target: str, data: bytes) -> bool:
    """Whether it was accepted. Another exception than an ArtifactError is a bug."""
    try:
        TARGETS[target](data)
    except ArtifactError as error:
        assert len(str(error)) < 10_000
        return False
    return True


def seeds(target: str) -> list[bytes]:
    """What fuzzing begins with: real parts of an artifact, and what was found earlier."""
    parts = forge.base()
    members = parts.members()
    small = {name: content for name, content in members.items() if len(content) < 10_000}
    found = {
        "container": [forge.zipped(forge.listed(small)), forge.zipped([])],
        "document": [members["manifest.json"], members["details.json"], members["signature.json"]],
        "manifests": [members["manifest.json"] + b"\0\0" + members["details.json"]],
        "details": [members["details.json"]],
        "envelopes": [members["signature.json"]],
        "policies": [policy.encode(policy.parse(forge.dumps(forge.policy())))],
        "native": [parts.files[forge.PAYLOAD]],
    }[target]
    kept = sorted((SEEDS / target).glob("*")) if (SEEDS / target).is_dir() else []
    return [*found, *(path.read_bytes() for path in kept)]


def main(target: str, seconds: str, folder: str = "") -> None:
    import atheris

    from .mutants import PATHS, loaded

    prepared = seeds(target)
    files = {str(path) for path in PATHS}
    for (file, _, _), functions in loaded().items():
        if file in files:
            for function in functions:
                atheris.instrument_func(function)

    def one(data: bytes) -> None:
        meet(target, data)

    with tempfile.TemporaryDirectory() as made:
        corpus = Path(folder or made)
        for content in prepared:
            (corpus / f"{zlib.crc32(content):08x}").write_bytes(content)
        options = ["-max_len=30000", "-rss_limit_mb=2048", "-timeout=5", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *options, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
