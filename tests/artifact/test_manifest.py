"""The manifest: two documents with closed schemas that have to fit together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vitrify.artifact import canonical
from vitrify.artifact.dtypes import BY_NAME, CODES, DTYPES
from vitrify.artifact.manifest import (
    FileEntry,
    Kernel,
    Manifest,
    Meta,
    Node,
    Port,
    Target,
    encode,
    encode_details,
    parse,
)
from vitrify.errors import ArtifactError, LimitError

DIGEST = "0123456789abcdef" * 4


def manifest() -> Manifest:
    kernel = Kernel("conv", (0, 1), "2*N*9", 12)
    targets = (
        Target("x86-64-v3", (), "payload/v3.so", "weights/w.bin", "N*4", 64, 4096, (kernel,), "leaves/w"),
        Target("aarch64", ("asimd",), "payload/arm.so", None, 0, 0, "N + 5", architecture="aarch64"),
    )
    files = {
        "payload/v3.so": FileEntry(5, DIGEST, 7, "payload"),
        "payload/arm.so": FileEntry((1 << 20) + 1, DIGEST, 0xFFFFFFFF, "payload"),
        "weights/w.bin": FileEntry(0, DIGEST, 0, "weights"),
        "leaves/w": FileEntry(0, DIGEST, 0, "leaves"),
        "details.json": FileEntry(9, DIGEST, 1, "details"),
    }
    return Manifest(
        "0.1.0",
        DIGEST,
        Meta("prod", "grå", "d", 'text\n"quoted"', -(1 << 63), {"k": "v", "": ""}),
        (Port("x", "f32", ("N", 3)), Port("é", "bf16", ())),
        (Port("y", "i64", ("2*N",)),),
        targets,
        (Node("conv_0", "Conv"), Node("", "Relu")),
        files,
    )


def read(encoded: bytes, details: bytes | None = None) -> Manifest:
    return parse(encoded, lambda _: encode_details(manifest()) if details is None else details)


def test_round_trip() -> None:
    encoded = encode(manifest())
    assert read(encoded) == manifest() and encode(read(encoded)) == encoded


def test_half_a_surrogate_pair_in_a_description() -> None:
    odd = manifest()._replace(meta=Meta("a\ud800b"))
    assert read(encode(odd), encode_details(odd)).meta.producer_name == "a?b"


def test_amounts_beyond_what_json_holds() -> None:
    large = manifest().targets[0]._replace(kernels=(Kernel("k", (), 1 << 60, 1),))
    odd = manifest()._replace(targets=(large, manifest().targets[1]))
    assert read(encode(odd), encode_details(odd)).targets[0].kernels[0].flops == str(1 << 60)


@pytest.mark.parametrize("which", ["manifest", "details"])
def test_every_truncation_is_noticed(which: str) -> None:
    encoded, details = encode(manifest()), encode_details(manifest())
    for length in range(len(encoded if which == "manifest" else details)):
        with pytest.raises(ArtifactError):
            read(*((encoded[:length], details) if which == "manifest" else (encoded, details[:length])))


@pytest.mark.parametrize("encoded", [b"", b"null", b"[]", b"{}", b"1", b"\xff\xfe", b"[" * 100000, b"{} {}"])
def test_what_is_no_manifest(encoded: bytes) -> None:
    with pytest.raises(ArtifactError):
        read(encoded)
    with pytest.raises(ArtifactError):
        read(encode(manifest()), encoded)


def test_another_format() -> None:
    document = {**json.loads(encode(manifest())), "format": "vitrify-artifact/9"}
    with pytest.raises(ArtifactError, match="expected vitrify-artifact/1; got vitrify-artifact/9"):
        read(canonical.dumps(document))


def test_a_manifest_that_is_too_large() -> None:
    names = tuple(Port("x" * 1000 + str(i), "f32", ()) for i in range(1100))
    with pytest.raises(LimitError):
        encode(manifest()._replace(inputs=names))


def changed(path: list[Any], value: Any) -> bytes:
    document = json.loads(encode(manifest()))
    _change(document, path, value)
    return canonical.dumps(document)


def _change(document: Any, path: list[Any], value: Any) -> None:
    for step in path[:-1]:
        document = document[step]
    if value is KeyError:
        del document[path[-1]]
    else:
        document[path[-1]] = value


BAD: list[tuple[list[Any], Any, str]] = [
    (["extra"], 1, "members"),
    (["vitrify"], KeyError, "members"),
    (["vitrify"], 1, "vitrify"),
    (["abi"], "ab", "64 lower-case"),
    (["inputs"], {}, "inputs"),
    (["inputs", 0], [], r"inputs\[0\]"),
    (["inputs", 0, "dtype"], "f31", "dtype"),
    (["inputs", 0, "dims", 1], -1, r"dims\[1\]"),
    (["inputs", 0, "dims", 1], True, r"dims\[1\]"),
    (["inputs", 0, "dims", 1], "", r"dims\[1\]"),
    (["inputs", 1, "name"], "x", "names that differ"),
    (["inputs", 0, "more"], 1, "members"),
    (["outputs", 0, "name"], None, "name"),
    (["targets"], [], "targets"),
    (["targets", 0, "payload"], "../evil.so", "cannot name"),
    (["targets", 0, "payload"], "/evil.so", "cannot name"),
    (["targets", 0, "payload"], "manifest.json", "that the manifest lists"),
    (["targets", 0, "payload"], "payload/other.so", "files"),
    (["targets", 0, "weights"], 5, "weights"),
    (["targets", 0, "leaves"], None, "list of digests"),
    (["targets", 0, "os"], "plan9", "one of linux"),
    (["targets", 0, "scratch_bytes"], "N", "scratch_bytes"),
    (["targets", 0, "arena_bytes"], None, "arena_bytes"),
    (["targets", 0, "kernels"], [], "kernels"),
    (["files", "weights/w.bin"], KeyError, "files"),
    (["files", "weights/w.bin", "role"], "payload", "files"),
    (["files", "weights/w.bin", "role"], "code", "one of"),
    (["files", "weights/w.bin", "md5"], "x", "members"),
    (["files", "weights/w.bin", "crc32"], "0", "8 lower-case"),
    (["files", "weights/w.bin", "crc32"], "0000000A", "8 lower-case"),
    (["files", "payload/v3.so", "sha256"], DIGEST.upper(), "hexadecimal"),
    (["files", "payload/v3.so", "sha256"], DIGEST[:-1], "hexadecimal"),
    (["files", "signature.json"], {"size": 0, "sha256": DIGEST, "crc32": "00000000", "role": "probe"}, "lists"),
    (["files", "details.json"], KeyError, "details.json"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_the_schema_is_closed(path: list[Any], value: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        read(changed(path, value))


BAD_DETAILS: list[tuple[list[Any], Any, str]] = [
    (["meta", "version"], 3, "64-bit"),
    (["meta", "version"], "03", "64-bit"),
    (["meta", "version"], str(1 << 63), "64-bit"),
    (["meta", "custom_metadata_map", "k"], 3, "custom_metadata_map"),
    (["kernels", 0, 0, "nodes"], [2], "nodes below 2"),
    (["kernels"], [], "kernels of 2 targets"),
    (["nodes", 0, "op"], None, "op"),
    (["host"], {}, "members"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_DETAILS)
def test_the_schema_of_details_is_closed(path: list[Any], value: Any, message: str) -> None:
    document = json.loads(encode_details(manifest()))
    _change(document, path, value)
    with pytest.raises(ArtifactError, match=message):
        read(encode(manifest()), canonical.dumps(document))


def test_a_manifest_of_wrong_types_is_not_encoded() -> None:
    with pytest.raises(ArtifactError):
        encode(manifest()._replace(vitrify=3))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError):
        encode_details(manifest()._replace(meta=Meta(3)))  # type: ignore[arg-type]


def test_the_interface_is_the_headers() -> None:
    import hashlib

    from vitrify.codegen.c.native import include_directory
    from vitrify.runtime.native import ABI_DIGEST

    assert hashlib.sha256((include_directory() / "abi.h").read_bytes()).hexdigest() == ABI_DIGEST


def test_element_types_are_those_of_the_graph_ir() -> None:
    from vitrify.ir.dtypes import DTYPES as GRAPH_DTYPES

    assert [(t.name, t.itemsize, t.onnx) for t in DTYPES] == [
        (t.name, t.itemsize, t.onnx) for t in GRAPH_DTYPES
    ]
    assert [CODES[t.name] for t in GRAPH_DTYPES] == [t.code for t in GRAPH_DTYPES]
    assert [t.extension or t.carrier for t in DTYPES] == [t.numpy_name for t in GRAPH_DTYPES]
    assert BY_NAME["f32"].tensor_type == "tensor(float)"
