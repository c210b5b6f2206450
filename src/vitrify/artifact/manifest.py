"""The manifest of an artifact: what it computes, for which CPUs, and the digest of every file.

It is one line of JSON in a single accepted spelling: parsing and encoding again must give the same
bytes. Its last member is the SHA-256 of everything before, so that damage to the manifest itself
shows. The schema is closed: unknown, missing, repeated and ill-typed members are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ..errors import ArtifactError
from .dtypes import BY_NAME

FORMAT = 2
MAX_BYTES = 64 << 20
LEAF_BYTES = 1 << 20
MANIFEST_NAME = "manifest.json"

#: A count, or an expression over the model's named dims.
Amount = int | str


class Port(NamedTuple):
    """An input or output. A dim is a number, the name of a dim, or an expression over named dims."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


class Meta(NamedTuple):
    """What the model says about itself."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = {}
    graph_description: str = ""


class Node(NamedTuple):
    """A node of the source model; failures of a run name it by its index in the manifest."""

    name: str
    op: str


class Kernel(NamedTuple):
    """One kernel call of the plan: the source nodes it stands for, its work and its memory traffic."""

    name: str
    nodes: tuple[int, ...] = ()
    flops: Amount = 0
    bytes: Amount = 0


class Target(NamedTuple):
    """The code for one kind of CPU. ``features`` are needed besides what the target's name implies;
    ``weights`` is None for a model without constants. Memory is in bytes, scratch per thread."""

    target: str
    features: tuple[str, ...]
    payload: str
    weights: str | None
    arena_bytes: Amount
    scratch_bytes: int
    peak_bytes: Amount
    kernels: tuple[Kernel, ...] = ()


class FileEntry(NamedTuple):
    """``sha256`` has one digest for each MiB of the file, so that they can be checked in parallel and
    an error can say where the damage is. An empty file has none."""

    size: int
    sha256: tuple[str, ...]


class Edge(NamedTuple):
    """An input or output of the session. ``type`` is as sessions show it, such as ``seq(tensor(float))``;
    ``dims`` are a tensor's, None where it is none or its rank is not known before the run."""

    name: str
    type: str
    dims: tuple[int | str, ...] | None


class Literal(NamedTuple):
    """A constant tensor. Strings are themselves; other types are one hexadecimal text of all bytes."""

    dtype: str
    dims: tuple[int, ...]
    values: tuple[str, ...]


class Setting(NamedTuple):
    """An attribute of a step: integers, floats as ``float.hex`` writes them, or strings, by ``kind``."""

    kind: str
    values: tuple[int | str, ...]


class Step(NamedTuple):
    """One host op: data alone, never code. ``inputs`` are numbers of values, -1 for one left out."""

    op: str
    source: str
    inputs: tuple[int, ...]
    outputs: int
    settings: Mapping[str, Setting] = {}


class Host(NamedTuple):
    """What a session does in Python around the native plan, with what is no tensor of numbers.

    Values are numbered in this order: ``inputs`` (the session's), ``constants``, results of ``prologue``,
    outputs of the plan, results of ``epilogue``. ``feeds`` are the plan's inputs, ``results`` the session's
    outputs.
    """

    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    constants: tuple[Literal, ...]
    prologue: tuple[Step, ...]
    feeds: tuple[int, ...]
    epilogue: tuple[Step, ...]
    results: tuple[int, ...]


class Slot(NamedTuple):
    """An argument or a result of an op."""

    dtype: str
    rank: int


class CustomCall(NamedTuple):
    """A custom op for arguments (None: left out) and results of these forms. With ``c_source`` it is in the
    payload; without, sessions call what the process has registered as ``domain::name`` in this version with a
    signature of this digest, as the Python module ``origin`` does. ``attributes`` are JSON."""

    label: str
    version: int
    digest: str
    origin: str
    attributes: str
    arguments: tuple[Slot | None, ...]
    results: tuple[Slot, ...]
    c_source: str


class Manifest(NamedTuple):
    """Everything about an artifact but the bytes of its files. ``host`` is None where all inputs and outputs
    are the plan's own. The plan names ``custom_calls`` by number."""

    vitrify: str
    meta: Meta
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    targets: tuple[Target, ...]
    nodes: tuple[Node, ...] = ()
    files: Mapping[str, FileEntry] = {}
    host: Host | None = None
    custom_calls: tuple[CustomCall, ...] = ()


T = TypeVar("T")
Parser = Callable[[Any, str], T]

_HEX = frozenset("0123456789abcdef")
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_MAX_NAME = 200


def _refuse(where: str, expected: str, actual: object) -> ArtifactError:
    shown = repr(actual)
    return ArtifactError(
        f"manifest: {where or 'the document'} is ill-formed",
        expected=expected,
        actual=shown if len(shown) <= 80 else shown[:77] + "...",
        hint="the artifact is damaged or was not written by this version; compile the model again",
    )


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise _refuse(where, "a string", value)
    return value


def _count(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise _refuse(where, "an integer from 0 to 2**63 - 1", value)
    return value


def _integer(value: Any, where: str) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise _refuse(where, "a 64-bit integer", value)
    return value


def _amount(value: Any, where: str) -> Amount:
    return value if type(value) is str and value else _count(value, where)


def _dtype(value: Any, where: str) -> str:
    if type(value) is not str or value not in BY_NAME:
        raise _refuse(where, "one of " + " ".join(BY_NAME), value)
    return value


def _file_name(value: Any, where: str) -> str:
    if (
        type(value) is not str
        or not 0 < len(value) <= _MAX_NAME
        or not _NAME_CHARACTERS.issuperset(value)
        or value[0] in "._-"
        or value == MANIFEST_NAME
    ):
        raise _refuse(where, "a plain file name", value)
    return value


def _digest(value: Any, where: str) -> str:
    if type(value) is not str or len(value) != 64 or not _HEX.issuperset(value):
        raise _refuse(where, "64 lowercase hexadecimal digits", value)
    return value


def _optional_file(value: Any, where: str) -> str | None:
    return None if value is None else _file_name(value, where)


def _several(item: Parser[T]) -> Parser[tuple[T, ...]]:
    def parse(value: Any, where: str) -> tuple[T, ...]:
        if type(value) is not list:
            raise _refuse(where, "a list", value)
        return tuple([item(element, f"{where}[{index}]") for index, element in enumerate(value)])

    return parse


def _mapping(key: Parser[str], item: Parser[T]) -> Parser[dict[str, T]]:
    def parse(value: Any, where: str) -> dict[str, T]:
        if type(value) is not dict:
            raise _refuse(where, "an object", value)
        return {key(name, where): item(element, f"{where}[{name!r}]") for name, element in value.items()}

    return parse


def _record(cls: Callable[..., T], **fields: Parser[Any]) -> Parser[T]:
    names = list(fields)

    def parse(value: Any, where: str) -> T:
        if type(value) is not dict or list(value) != names:
            raise _refuse(where, f"an object with the members {', '.join(names)}", value)
        return cls(*[parser(value[name], f"{where}.{name}") for name, parser in fields.items()])

    return parse


def _optional(item: Parser[T]) -> Parser[T | None]:
    return lambda value, where: None if value is None else item(value, where)


def _label(value: Any, where: str) -> str:
    domain, mark, name = _text(value, where).partition("::")
    if not (domain and mark and name):
        raise _refuse(where, "domain::name", value)
    return str(value)


def _object_text(value: Any, where: str) -> str:
    try:
        if type(json.loads(_text(value, where))) is dict:
            return str(value)
    except (ValueError, RecursionError):
        pass
    raise _refuse(where, "the text of a JSON object", value)


def _literal_dtype(value: Any, where: str) -> str:
    return "string" if value == "string" and type(value) is str else _dtype(value, where)


def _edge_type(value: Any, where: str) -> str:
    if type(value) is not str or not is_edge_type(value):
        raise _refuse(where, "a type such as tensor(string) or seq(tensor(float))", value)
    return value


def is_edge_type(text: str) -> bool:
    """Whether a session can take or give values of this type."""
    if text.startswith("seq(map(") and text.endswith(")"):
        text = text[4:-1]
    if text.startswith("map("):
        key, _, item = text[4:-1].partition(",")
        return text.endswith(")") and key in ("string", "int64") and item in _ELEMENTS
    for outer in ("optional(", "seq("):
        if text.startswith(outer) and text.endswith(")"):
            text = text[len(outer) : -1]
    return text in _ELEMENTS


def _setting(value: Any, where: str) -> Setting:
    setting = _record(Setting, kind=_text, values=_several(_setting_value))(value, where)
    if setting.kind not in _SETTING_KINDS:
        raise _refuse(f"{where}.kind", "int, float or string", setting.kind)
    if not all(type(item) is _SETTING_KINDS[setting.kind] for item in setting.values):
        raise _refuse(f"{where}.values", f"values of kind {setting.kind}", setting.values)
    if setting.kind == "float":
        for item in setting.values:
            try:
                float.fromhex(str(item))
            except (ValueError, OverflowError):
                raise _refuse(f"{where}.values", "floats in hexadecimal", item) from None
    return setting


def _setting_value(value: Any, where: str) -> int | str:
    return value if type(value) is str else _integer(value, where)


_SETTING_KINDS: dict[str, type] = {"int": int, "float": str, "string": str}
_ELEMENTS = frozenset({"tensor(string)", *(dtype.tensor_type for dtype in BY_NAME.values())})

_port = _record(Port, name=_text, dtype=_dtype, dims=_several(_amount))
_meta = _record(
    Meta, producer_name=_text, graph_name=_text, domain=_text, description=_text, version=_integer,
    custom_metadata_map=_mapping(_text, _text), graph_description=_text,
)  # fmt: skip
_kernel = _record(Kernel, name=_text, nodes=_several(_count), flops=_amount, bytes=_amount)
_target = _record(
    Target, target=_text, features=_several(_text), payload=_file_name, weights=_optional_file,
    arena_bytes=_amount, scratch_bytes=_count, peak_bytes=_amount, kernels=_several(_kernel),
)  # fmt: skip
_edge = _record(Edge, name=_text, type=_edge_type, dims=_optional(_several(_amount)))
_literal = _record(Literal, dtype=_literal_dtype, dims=_several(_count), values=_several(_text))
_step = _record(
    Step, op=_text, source=_text, inputs=_several(_integer), outputs=_count, settings=_mapping(_text, _setting)
)
_host = _record(
    Host, inputs=_several(_edge), outputs=_several(_edge), constants=_several(_literal), prologue=_several(_step),
    feeds=_several(_count), epilogue=_several(_step), results=_several(_count),
)  # fmt: skip
_slot = _record(Slot, dtype=_dtype, rank=_count)
_custom_call = _record(
    CustomCall, label=_label, version=_count, digest=_digest, origin=_text, attributes=_object_text,
    arguments=_several(_optional(_slot)), results=_several(_slot), c_source=_text,
)  # fmt: skip
_manifest = _record(
    Manifest, vitrify=_text, meta=_meta, inputs=_several(_port), outputs=_several(_port),
    targets=_several(_target), nodes=_several(_record(Node, name=_text, op=_text)),
    files=_mapping(_file_name, _record(FileEntry, size=_count, sha256=_several(_digest))),
    host=_optional(_host), custom_calls=_several(_custom_call),
)  # fmt: skip


def check(manifest: Manifest) -> None:
    """Raises ArtifactError where the parts of a manifest do not fit together."""
    for kind, ports in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        names = [port.name for port in ports]
        if len(set(names)) != len(names):
            raise _refuse(kind, "names that differ", names)
    if not manifest.targets:
        raise _refuse("targets", "at least one target", [])
    used = {name for target in manifest.targets for name in (target.payload, target.weights) if name}
    if used != set(manifest.files):
        raise _refuse("files", f"exactly the files that targets use: {sorted(used)}", sorted(manifest.files))
    for name, entry in manifest.files.items():
        leaves = -(-entry.size // LEAF_BYTES)
        if len(entry.sha256) != leaves:
            raise _refuse(f"files[{name!r}].sha256", f"{leaves} digests", len(entry.sha256))
    for target in manifest.targets:
        for kernel in target.kernels:
            if any(node >= len(manifest.nodes) for node in kernel.nodes):
                raise _refuse(f"kernel {kernel.name!r}", f"nodes below {len(manifest.nodes)}", kernel.nodes)
    if manifest.host is not None:
        _check_host(manifest.host, len(manifest.inputs), len(manifest.outputs))


def _check_host(host: Host, plan_inputs: int, plan_outputs: int) -> None:
    """Every value is made before it is read."""
    for kind, edges in (("inputs", host.inputs), ("outputs", host.outputs)):
        names = [edge.name for edge in edges]
        if len(set(names)) != len(names):
            raise _refuse(f"host.{kind}", "names that differ", names)
    if len(host.feeds) != plan_inputs:
        raise _refuse("host.feeds", f"{plan_inputs} values, one for each input of the plan", len(host.feeds))
    if len(host.results) != len(host.outputs):
        raise _refuse("host.results", f"{len(host.outputs)} values, one for each output", len(host.results))
    known = _check_steps("prologue", host.prologue, len(host.inputs) + len(host.constants))
    _check_values("feeds", host.feeds, 0, known)
    known = _check_steps("epilogue", host.epilogue, known + plan_outputs)
    _check_values("results", host.results, 0, known)


def _check_steps(what: str, steps: tuple[Step, ...], known: int) -> int:
    """How many values there are after them."""
    for step in steps:
        _check_values(f"{what} step {step.op!r}", step.inputs, -1, known)
        if step.outputs > _MAX_STEP_OUTPUTS:
            raise _refuse(f"host.{what} step {step.op!r}", f"at most {_MAX_STEP_OUTPUTS} results", step.outputs)
        known += step.outputs
    return known


def _check_values(what: str, values: tuple[int, ...], least: int, known: int) -> None:
    if not all(least <= value < known for value in values):
        raise _refuse(f"host.{what}", f"values from {least} to {known - 1}", values)


_MAX_STEP_OUTPUTS = 1 << 20


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: _plain(member) for name, member in value._asdict().items()}
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return value


def _dump(document: Mapping[str, Any]) -> bytes:
    # Lone surrogates (a damaged name) must not make writing or checking fail with a Unicode error.
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def encode(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``. Raises ArtifactError for a manifest that would not parse back."""
    document = {"format": FORMAT, **_plain(manifest)}
    body = _dump(document)
    document["sha256"] = hashlib.sha256(body).hexdigest()
    encoded = _dump(document) + b"\n"
    if parse(encoded) != manifest:
        raise ArtifactError("manifest: its parts have the wrong types", hint="sequences must be tuples")
    return encoded


def parse(encoded: bytes) -> Manifest:
    """The manifest in ``encoded``; ArtifactError for anything but what :func:`encode` writes."""
    if len(encoded) > MAX_BYTES:
        raise _refuse("", f"at most {MAX_BYTES} bytes", len(encoded))
    try:
        document = json.loads(encoded)
    except (ValueError, RecursionError) as error:
        raise _refuse("", "JSON", str(error)) from None
    if type(document) is not dict or "format" not in document:
        raise _refuse("", "an object with the member format", document)
    found = document.pop("format")
    if found != FORMAT or type(found) is not int:
        raise ArtifactError(
            "manifest: the format is not the one this version reads", expected=FORMAT, actual=found,
            hint="compile the model again with this version, or install the version that wrote the artifact",
        )  # fmt: skip
    stated = document.pop("sha256", None)
    body = _dump({"format": found, **document})
    digest = hashlib.sha256(body).hexdigest()
    if stated != digest or encoded != body[:-1] + b',"sha256":"' + digest.encode() + b'"}\n':
        raise _refuse("", f"the SHA-256 {stated}", digest)
    manifest: Manifest = _manifest(document, "")
    check(manifest)
    return manifest
