"""ManifestError: documents that are not canonical JSON, or not of their schema. All are signed by a trusted key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrify.errors import ManifestError

from .forge import DETAILS_ROLE, LEAVES, PAYLOAD, WEIGHTS, Parts, base, dumps, envelope, write_file
from .table import attack, changed, members


def _text(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """The artifact signed over changed bytes of the manifest."""

    def write(path: Path) -> None:
        parts = base()
        write_file(path, parts.members(change(dumps(parts.manifest))))

    return write


def _value(text: str) -> Callable[[Path], None]:
    """The same, with the version that wrote it replaced by other JSON."""
    return _text(lambda manifest: manifest.replace(b'"vitrify":"0.1.0"', b'"vitrify":' + text.encode()))


def _details(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def write(parts: Parts) -> None:
        document = json.loads(parts.files["details.json"])
        change(document)
        parts.files["details.json"] = dumps(document)
        parts.list_files()

    return changed(write)


def _statement(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def write(files: dict[str, bytes]) -> None:
        parts = base()
        parts.members()
        change(parts.statement)
        files["signature.json"] = envelope(dumps(parts.statement))

    return members(write)


def _envelope(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def write(files: dict[str, bytes]) -> None:
        document = json.loads(files["signature.json"])
        change(document)
        files["signature.json"] = dumps(document)

    return members(write)


_NOT = "is not canonical JSON"
for _name, _message, _change in (
    ("duplicate-key", _NOT, lambda m: m.replace(b'{"abi"', b'{"abi":"x","abi"')),
    ("order", _NOT, lambda m: m.replace(
        b'"architecture":"x86_64","arena_bytes":0', b'"arena_bytes":0,"architecture":"x86_64"')),
    ("space", _NOT, lambda m: m.replace(b'":', b'": ', 1)),
    ("newline", _NOT, lambda m: m + b"\n"),
    ("escape", _NOT, lambda m: m.replace(b'"f32"', rb'"\u006632"', 1)),
    ("escaped-slash", _NOT, lambda m: m.replace(b"leaves/", rb"leaves\/", 1)),
    ("bom", _NOT, lambda m: b"\xef\xbb\xbf" + m),
    ("utf-16", _NOT, lambda m: m.decode().encode("utf-16")),
    ("utf-16-without-mark", _NOT, lambda m: m.decode().encode("utf-16-le")),
    ("utf-32", _NOT, lambda m: m.decode().encode("utf-32-be")),
    ("latin-1", _NOT, lambda m: m.replace(b'"0.1.0"', b'"\xe9"')),
    ("overlong", _NOT, lambda m: m.replace(b'"0.1.0"', b'"\xc0\xaf"')),
    ("surrogate-bytes", _NOT, lambda m: m.replace(b'"0.1.0"', b'"\xed\xa0\x80"')),
    ("empty", _NOT, lambda m: b""),
    ("cut-off", _NOT, lambda m: m[:-1]),
    ("two-documents", _NOT, lambda m: m + m),
    ("comment", _NOT, lambda m: b"/**/" + m),
    ("control", _NOT, lambda m: m.replace(b"0.1.0", b"\0")),
):  # fmt: skip
    attack(f"manifests/{_name}", ManifestError, _message, _text(_change))
for _name, _message, _json in (
    ("nan", "not an integer", "NaN"), ("infinity", "not an integer", "-Infinity"),
    ("overflow", "not an integer", "1e999"), ("float", "not an integer", "1.0"), ("exponent", "not an integer", "1E2"),
    ("minus-zero", _NOT, "-0"), ("leading-zero", _NOT, "01"), ("plus", _NOT, "+1"), ("hex", _NOT, "0x1"),
    ("lone-surrogate", "not text", r'"\ud800"'), ("surrogates-swapped", "not text", r'"\udc00\ud800"'),
    ("single-quotes", _NOT, "'0'"), ("null", "ill-formed", "null"), ("number", "ill-formed", "1"),
    ("list", "ill-formed", '["0.1.0"]'),
):  # fmt: skip
    attack(f"manifests/{_name}", ManifestError, _message, _value(_json))
for _name, _message, _edit in (
    ("format", "not the one this version reads", lambda p: p.manifest.update(format="vitrify-artifact/2")),
    ("format-number", "manifest.format is ill-formed", lambda p: p.manifest.update(format=1)),
    ("unknown-member", "manifest is ill-formed", lambda p: p.manifest.update(more=1)),
    ("missing-member", "manifest is ill-formed", lambda p: p.manifest.pop("abi")),
    ("unknown-in-target", "ill-formed", lambda p: p.target.update(entry="main")),
    ("bool-as-int", "ill-formed", lambda p: p.target.update(scratch_bytes=True)),
    ("int-as-bool", "ill-formed", lambda p: p.target.update(features=0)),
    ("negative", "ill-formed", lambda p: p.target.update(scratch_bytes=-1)),
    ("short-digest", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(sha256="ab" * 31)),
    ("upper-digest", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(sha256="AB" * 32)),
    ("md5", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(md5="ab" * 16)),
    ("md5-for-sha256", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(sha256="ab" * 16)),
    ("crc", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(crc32="+1234567")),
    ("crc-unicode", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(crc32="١" * 8)),
    ("role", "ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(role="script")),
    ("wrong-role", "files is ill-formed", lambda p: p.manifest["files"][PAYLOAD].update(role="leaves")),
    ("two-sboms", "at most one file for the role sbom", lambda p: (
        p.files.update({"a.json": b"{}", "b.json": b"{}"}),
        p.manifest["files"].update({n: {**DETAILS_ROLE, "role": "sbom"} for n in ("a.json", "b.json")}),
        p.list_files())),
    ("no-details", "manifest.files is ill-formed", lambda p: p.manifest["files"].pop("details.json")),
    ("lists-itself", "a file that the manifest lists", lambda p: p.manifest["files"].update(
        {"manifest.json": DETAILS_ROLE})),
    ("lists-signature", "a file that the manifest lists", lambda p: p.manifest["files"].update(
        {"signature.json": DETAILS_ROLE})),
    ("no-targets", "details.kernels is ill-formed", lambda p: p.manifest.update(targets=[])),
    ("weights-without-leaves", "a list of digests for weights", lambda p: p.target.update(leaves=None)),
    ("leaves-without-weights", "a list of digests for weights", lambda p: p.target.update(weights=None)),
    ("payload-as-weights", "files is ill-formed", lambda p: p.target.update(weights=PAYLOAD)),
    ("weights-as-payload", "files is ill-formed", lambda p: p.target.update(payload=WEIGHTS, weights=PAYLOAD)),
    ("unused-probe", "for probes exactly", lambda p: (
        p.files.update({"probes/0.bin": b"x"}),
        p.manifest["files"].update({"probes/0.bin": {**DETAILS_ROLE, "role": "probe"}}), p.list_files())),
    ("unused-payload", "files is ill-formed", lambda p: (
        p.files.update({"payload/more.so": b"x"}),
        p.manifest["files"].update({"payload/more.so": {**DETAILS_ROLE, "role": "payload"}}), p.list_files())),
    ("dtype", "ill-formed", lambda p: p.manifest["inputs"][0].update(dtype="f33")),
    ("dtype-object", "ill-formed", lambda p: p.manifest["inputs"][0].update(dtype={})),
    ("dim-negative", "ill-formed", lambda p: p.manifest["inputs"][0].update(dims=[-1])),
    ("dim-empty", "ill-formed", lambda p: p.manifest["inputs"][0].update(dims=[""])),
    ("dim-none", "ill-formed", lambda p: p.manifest["inputs"][0].update(dims=[None])),
    ("duplicate-input", "inputs is ill-formed", lambda p: p.manifest.update(inputs=p.manifest["inputs"] * 2)),
    ("duplicate-output", "outputs is ill-formed", lambda p: p.manifest.update(outputs=p.manifest["outputs"] * 2)),
    ("os", "ill-formed", lambda p: p.target.update(os="plan9")),
    ("architecture", "ill-formed", lambda p: p.target.update(architecture="i386")),
    ("kernels", "ill-formed", lambda p: p.target.update(kernels=[])),
):  # fmt: skip
    attack(f"manifests/{_name}", ManifestError, _message, changed(_edit))
attack("manifests/array", ManifestError, "manifest is ill-formed", _text(lambda _: b"[]"))
attack("manifests/format-in-array", ManifestError, "manifest is ill-formed", _text(lambda _: b'"format"'))

_EDGE = {"name": "x", "type": "tensor(float)", "dims": [1]}
_HOST = {"inputs": [], "outputs": [], "constants": [], "prologue": [], "feeds": [0], "epilogue": [], "results": []}
_STEP = {"op": "Identity", "source": "", "inputs": [0], "outputs": 1, "settings": {}}
_CALL = {
    "label": "a::b", "version": 1, "digest": "ab" * 32, "origin": "", "attributes": "{}", "arguments": [],
    "results": [], "c_source": "",
}  # fmt: skip


def _host(**members: object) -> Callable[[Path], None]:
    return _details(lambda d: d.update(host={**_HOST, "inputs": [_EDGE], **members}))


for _name, _message, _write in (
    ("details-unknown", "details is ill-formed", _details(lambda d: d.update(more=1))),
    ("no-targets-nor-kernels", "targets is ill-formed", changed(lambda p: (
        p.manifest.update(targets=[]),
        p.files.update({"details.json": dumps({**json.loads(p.files["details.json"]), "kernels": []})}),
        p.list_files()))),
    ("host-inputs-text", "ill-formed", _host(prologue=[{**_STEP, "inputs": ["0"]}])),
    ("host-settings", "an object", _host(prologue=[{**_STEP, "settings": []}])),
    ("details-kernels", "details.kernels is ill-formed", _details(lambda d: d.update(kernels=[]))),
    ("kernel-node", "kernel 'k' is ill-formed", _details(lambda d: d.update(
        kernels=[[{"name": "k", "nodes": [10**9], "flops": 0, "bytes": 0}]]))),
    ("version", "a 64-bit integer", _details(lambda d: d["meta"].update(version="9223372036854775808"))),
    ("version-digits", "a 64-bit integer", _details(lambda d: d["meta"].update(version="0" * 5000))),
    ("version-unicode", "a 64-bit integer", _details(lambda d: d["meta"].update(version="١"))),
    ("host-feeds", "host.feeds is ill-formed", _host(feeds=[])),
    ("host-feeds-unknown", "host.feeds is ill-formed", _host(feeds=[7])),
    ("host-results", "host.results is ill-formed", _host(results=[0])),
    ("host-results-unknown", "host.results is ill-formed", _host(outputs=[_EDGE], results=[9])),
    ("host-names", "host.inputs is ill-formed", _host(inputs=[_EDGE, _EDGE])),
    ("host-step-reads-itself", "step 'Identity' is ill-formed", _host(prologue=[{**_STEP, "inputs": [1]}])),
    ("host-step-negative", "step 'Identity' is ill-formed", _host(prologue=[{**_STEP, "inputs": [-2]}])),
    ("host-step-outputs", "step 'Identity' is ill-formed", _host(prologue=[{**_STEP, "outputs": 1 << 40}])),
    ("host-type", "a type such as", _host(inputs=[{**_EDGE, "type": "seq(seq(seq(tensor(float))))"}])),
    ("host-setting-int", "a 64-bit integer", _host(prologue=[
        {**_STEP, "settings": {"a": {"kind": "int", "values": ["1e3"]}}}])),
    ("host-setting-float", "floats in hexadecimal", _host(prologue=[
        {**_STEP, "settings": {"a": {"kind": "float", "values": ["one"]}}}])),
    ("host-setting-huge", "floats in hexadecimal", _host(prologue=[
        {**_STEP, "settings": {"a": {"kind": "float", "values": ["0x1p99999"]}}}])),
    ("call-label", "domain::name", _details(lambda d: d.update(custom_calls=[{**_CALL, "label": "ab"}]))),
    ("call-attributes", "the text of a JSON object", _details(
        lambda d: d.update(custom_calls=[{**_CALL, "attributes": "[" * 100_000}]))),
    ("call-attributes-list", "the text of a JSON object", _details(
        lambda d: d.update(custom_calls=[{**_CALL, "attributes": "[]"}]))),
    ("statement-type", "statement._type is ill-formed", _statement(lambda s: s.update(_type="x"))),
    ("statement-predicate-type", "predicateType is ill-formed", _statement(lambda s: s.update(predicateType="x"))),
    ("statement-unknown", "statement is ill-formed", _statement(lambda s: s.update(more=1))),
    ("statement-no-subject", "statement.subject is ill-formed", _statement(lambda s: s.update(subject=[]))),
    ("statement-two-subjects", "statement.subject is ill-formed", _statement(lambda s: s.update(
        subject=[*s["subject"], {"digest": {"sha256": hashlib.sha256(b"").hexdigest()}, "name": "manifest.json"}]))),
    ("statement-other-subject", "name is ill-formed", _statement(lambda s: s["subject"][0].update(name="other"))),
    ("statement-md5", "ill-formed", _statement(lambda s: s["subject"][0].update(digest={"md5": "ab" * 16}))),
    ("statement-release", "ill-formed", _statement(lambda s: s["predicate"].update(release="3"))),
    ("statement-date-zoneless", "a moment in UTC", _statement(
        lambda s: s["predicate"].update(expires="2030-01-01T00:00:00"))),
    ("envelope-unknown", "envelope is ill-formed", _envelope(lambda e: e.update(more=1))),
    ("envelope-type", "payloadType is ill-formed", _envelope(lambda e: e.update(payloadType=1))),
    ("envelope-base64", "base64", _envelope(lambda e: e.update(payload=e["payload"] + "\n"))),
    ("envelope-base64-url", "base64", _envelope(lambda e: e["signatures"][0].update(sig="-_" * 43 + "=="))),
    ("envelope-base64-bits", "base64", _envelope(lambda e: e["signatures"][0].update(
        sig=e["signatures"][0]["sig"][:-3] + "B=="))),
    ("envelope-keyid", "64 lower-case", _envelope(lambda e: e["signatures"][0].update(keyid=""))),
):  # fmt: skip
    attack(f"manifests/{_name}", ManifestError, _message, _write)
attack("manifests/leaves-listed-twice", ManifestError, "files is ill-formed", changed(
    lambda p: p.target.update(weights=LEAVES, leaves=WEIGHTS)))  # fmt: skip
