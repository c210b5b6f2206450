from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from vitrify.artifact.dtypes import BY_NAME, CODES, DTYPES
from vitrify.artifact.manifest import (
    FORMAT,
    FileEntry,
    Kernel,
    Manifest,
    Meta,
    Node,
    Port,
    Target,
    encode,
    parse,
)
from vitrify.errors import ArtifactError

DIGEST = "0123456789abcdef" * 4


def manifest() -> Manifest:
    kernel = Kernel("conv", (0, 1), "2*N*9", 12)
    targets = (
        Target("x86-64-v3", (), "payload-x86-64-v3.so", "w.bin", "N*4", 64, 4096, (kernel,)),
        Target("x86-64-v4", ("avx512_vnni",), "payload-x86-64-v4.so", None, 0, 0, "N + 5"),
    )
    files = {
        "payload-x86-64-v3.so": FileEntry(5, (DIGEST,)),
        "payload-x86-64-v4.so": FileEntry((1 << 20) + 1, (DIGEST, DIGEST)),
        "w.bin": FileEntry(0, ()),
    }
    return Manifest(
        "0.1.0",
        Meta("prod", "grå", "d", 'text\n"quoted" \ud800', -3, {"k": "v", "": ""}),
        (Port("x", "f32", ("N", 3)), Port("é", "bf16", ())),
        (Port("y", "i64", ("2*N",)),),
        targets,
        (Node("conv_0", "Conv"), Node("", "Relu")),
        files,
    )


def sealed(document: dict[str, Any]) -> bytes:
    """A document with a fitting digest, whatever it says."""
    body = {key: value for key, value in document.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(body, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**body, "sha256": digest}, separators=(",", ":")).encode() + b"\n"


def test_round_trip() -> None:
    encoded = encode(manifest())
    assert parse(encoded) == manifest() and encode(parse(encoded)) == encoded
    assert sealed(json.loads(encoded)) == encoded


def test_every_flipped_bit_is_noticed() -> None:
    encoded = encode(manifest())
    for position in range(len(encoded)):
        for bit in (0, 3, 5, 7):
            damaged = bytearray(encoded)
            damaged[position] ^= 1 << bit
            with pytest.raises(ArtifactError):
                parse(bytes(damaged))


def test_every_truncation_is_noticed() -> None:
    encoded = encode(manifest())
    for length in range(len(encoded)):
        with pytest.raises(ArtifactError):
            parse(encoded[:length])


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1",
        b"\xff\xfe",
        b"[" * 100000,
        b'{"format":' + b"9" * 5000 + b"}",
        b"{} {}",
    ],
)
def test_what_is_no_manifest(encoded: bytes) -> None:
    with pytest.raises(ArtifactError):
        parse(encoded)


def test_another_format() -> None:
    document = {**json.loads(encode(manifest())), "format": FORMAT + 1}
    with pytest.raises(ArtifactError, match=f"expected {FORMAT}; got {FORMAT + 1}"):
        parse(sealed(document))


def test_spelling_is_fixed() -> None:
    document = json.loads(encode(manifest()))
    for other in (
        json.dumps(document).encode(),
        encode(manifest()).rstrip(),
        encode(manifest()) + b"\n",
        encode(manifest()).replace(b'"format":', b'"format":1,"format":'),
    ):
        with pytest.raises(ArtifactError):
            parse(other)


def changed(path: list[Any], value: Any) -> bytes:
    document = json.loads(encode(manifest()))
    at = document
    for step in path[:-1]:
        at = at[step]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return sealed(document)


BAD: list[tuple[list[Any], Any, str]] = [
    (["extra"], 1, "members"),
    (["vitrify"], KeyError, "members"),
    (["vitrify"], 1, "vitrify"),
    (["inputs"], {}, "inputs"),
    (["inputs", 0], [], r"inputs\[0\]"),
    (["inputs", 0, "dtype"], "f31", "dtype"),
    (["inputs", 0, "dims", 1], -1, r"dims\[1\]"),
    (["inputs", 0, "dims", 1], 1.0, r"dims\[1\]"),
    (["inputs", 0, "dims", 1], True, r"dims\[1\]"),
    (["inputs", 0, "dims", 1], "", r"dims\[1\]"),
    (["inputs", 0, "dims", 1], 1 << 63, r"dims\[1\]"),
    (["inputs", 1, "name"], "x", "names that differ"),
    (["inputs", 0, "more"], 1, "members"),
    (["outputs", 0, "name"], None, "name"),
    (["meta", "version"], 1 << 64, "version"),
    (["meta", "custom_metadata_map", "k"], 3, "custom_metadata_map"),
    (["targets"], [], "at least one target"),
    (["targets", 0, "payload"], "../evil.so", "plain file name"),
    (["targets", 0, "payload"], "/evil.so", "plain file name"),
    (["targets", 0, "payload"], "manifest.json", "plain file name"),
    (["targets", 0, "payload"], "other.so", "files"),
    (["targets", 0, "weights"], 5, "weights"),
    (["targets", 0, "scratch_bytes"], "N", "scratch_bytes"),
    (["targets", 0, "arena_bytes"], None, "arena_bytes"),
    (["targets", 0, "kernels", 0, "nodes"], [2], "nodes below 2"),
    (["files", "w.bin"], KeyError, "files"),
    (["files", "w.bin", "size"], 1, "1 digests"),
    (["files", "w.bin", "sha256"], [DIGEST], "0 digests"),
    (["files", "payload-x86-64-v3.so", "sha256", 0], DIGEST.upper(), "hexadecimal"),
    (["files", "payload-x86-64-v3.so", "sha256", 0], DIGEST[:-1], "hexadecimal"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_the_schema_is_closed(path: list[Any], value: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        parse(changed(path, value))


def test_a_manifest_of_wrong_types_is_not_encoded() -> None:
    with pytest.raises(ArtifactError):
        encode(manifest()._replace(inputs=[Port("x", "f32", (1,))]))  # type: ignore[arg-type]
    with pytest.raises(ArtifactError):
        encode(manifest()._replace(vitrify=3))  # type: ignore[arg-type]


def test_element_types_are_those_of_the_graph_ir() -> None:
    from vitrify.ir.dtypes import DTYPES as GRAPH_DTYPES

    assert [(t.name, t.itemsize, t.onnx) for t in DTYPES] == [
        (t.name, t.itemsize, t.onnx) for t in GRAPH_DTYPES
    ]
    assert [CODES[t.name] for t in GRAPH_DTYPES] == [t.code for t in GRAPH_DTYPES]
    assert [t.extension or t.carrier for t in DTYPES] == [t.numpy_name for t in GRAPH_DTYPES]
    assert BY_NAME["f32"].tensor_type == "tensor(float)"
