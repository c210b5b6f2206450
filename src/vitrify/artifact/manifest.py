"""The manifest of an artifact: what it computes, for which machines, and the digest of every file.

Two documents of canonical JSON hold it. ``manifest.json`` is what a signature binds: interface, targets, files.
``details.json`` is one of these files and has what only runs and reports need: source nodes, kernels, the model's
own words, and what sessions do in Python. Their schemas are closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import LimitError, ManifestError, SchemaError
from . import canonical
from . import schema as s
from .container import check_name
from .dtypes import BY_NAME
from .record import Record
from .schema import refusal as _refuse

if TYPE_CHECKING:
    from .validation import Probe  # few artifacts have any

FORMAT = "vitrify-artifact/1"
MANIFEST, SIGNATURE, DETAILS = "manifest.json", "signature.json", "details.json"
MAX_DETAILS = 64 << 20
_MAX_AMOUNT = 1 << 16  # characters of an expression
ROLES = ("payload", "weights", "leaves", "details", "sbom", "provenance", "probe")

#: A count, or an expression over the model's named dims.
Amount = int | str


class Port(Record):
    """An input or output. A dim is a number, the name of a dim, or an expression over named dims."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]


class Meta(Record):
    """What the model says about itself."""

    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = {}
    graph_description: str = ""


class Node(Record):
    """A node of the source model; failures of a run name it by its index in the manifest."""

    name: str
    op: str


class Kernel(Record):
    """One kernel call of the plan: the source nodes it stands for, its work and its memory traffic."""

    name: str
    nodes: tuple[int, ...] = ()
    flops: Amount = 0
    bytes: Amount = 0


class Target(Record):
    """The code for one kind of machine. ``features`` are needed besides what the target's name implies. ``payload``
    exports ``exports`` and nothing else. ``weights`` and ``leaves``, the list of their digests, are None for a model
    without constants. Memory is in bytes, scratch per thread."""

    target: str
    features: tuple[str, ...]
    payload: str
    weights: str | None
    arena_bytes: Amount
    scratch_bytes: int
    peak_bytes: Amount
    kernels: tuple[Kernel, ...] = ()
    leaves: str | None = None
    os: str = "linux"
    architecture: str = "x86_64"
    exports: tuple[str, ...] = ("vt_payload",)


class FileEntry(Record):
    """A file: its size in bytes, its SHA-256 and (for archives) CRC-32, and what it is for."""

    size: int
    sha256: str
    crc32: int
    role: str


class Edge(Record):
    """An input or output of the session. ``type`` is as sessions show it, such as ``seq(tensor(float))``;
    ``dims`` are a tensor's, None where it is none or its rank is not known before the run."""

    name: str
    type: str
    dims: tuple[int | str, ...] | None


class Literal(Record):
    """A constant tensor. Strings are themselves; other types are one hexadecimal text of all bytes."""

    dtype: str
    dims: tuple[int, ...]
    values: tuple[str, ...]


class Setting(Record):
    """An attribute of a step: integers, floats as ``float.hex`` writes them, or strings, by ``kind``."""

    kind: str
    values: tuple[int | str, ...]


class Step(Record):
    """One host op: data alone, never code. ``inputs`` are numbers of values, -1 for one left out."""

    op: str
    source: str
    inputs: tuple[int, ...]
    outputs: int
    settings: Mapping[str, Setting] = {}


class Host(Record):
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


class Slot(Record):
    """An argument or a result of an op."""

    dtype: str
    rank: int


class CustomCall(Record):
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


class Manifest(Record):
    """Everything about an artifact but the bytes of its files. ``abi`` is the digest of the interface between
    payload and runtime. ``host`` is None where all inputs and outputs are the plan's own. The plan names
    ``custom_calls`` by number. ``validation`` are runs that every loading repeats."""

    vitrify: str
    abi: str
    meta: Meta
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    targets: tuple[Target, ...]
    nodes: tuple[Node, ...] = ()
    files: Mapping[str, FileEntry] = {}
    host: Host | None = None
    custom_calls: tuple[CustomCall, ...] = ()
    validation: tuple[Probe, ...] = ()


def _amount(value: Any, where: str) -> Amount:
    if type(value) is str and len(value) > _MAX_AMOUNT:
        raise LimitError(f"{where}: an expression is too long", expected=_MAX_AMOUNT, actual=len(value))
    return value if type(value) is str and value else s.count(value, where)


def _whole(value: Any, where: str) -> int:
    """A 64-bit integer in decimal: JSON's own hold 53 bits."""
    try:
        found = int(value) if type(value) is str and len(value) <= 20 else None
    except ValueError:
        found = None
    if found is None or str(found) != value or not -(1 << 63) <= found < 1 << 63:
        raise _refuse(where, "a 64-bit integer in decimal", value)
    return found


def _dtype(value: Any, where: str) -> str:
    if type(value) is not str or value not in BY_NAME:
        raise _refuse(where, "one of " + " ".join(BY_NAME), value)
    return value


def _file_name(value: Any, where: str) -> str:
    name = s.text(value, where)
    check_name(name)
    if name in (MANIFEST, SIGNATURE):
        raise _refuse(where, "a file that the manifest lists", value)
    return name


def _crc(value: Any, where: str) -> int:
    if type(value) is not str or len(value) != 8 or value != f"{int(value, 16) if _is_hex(value) else 0:08x}":
        raise _refuse(where, "8 lower-case hexadecimal digits", value)
    return int(value, 16)


def _is_hex(value: str) -> bool:
    return not set(value) - set("0123456789abcdef")


def _label(value: Any, where: str) -> str:
    domain, mark, name = s.text(value, where).partition("::")
    if not (domain and mark and name):
        raise _refuse(where, "domain::name", value)
    return str(value)


def _object_text(value: Any, where: str) -> str:
    try:
        if type(json.loads(s.text(value, where))) is dict:
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


def _probes(value: Any, where: str) -> tuple[Probe, ...]:
    if value == []:
        return ()
    from .validation import parse_probe

    return s.several(parse_probe)(value, where)


def _setting(value: Any, where: str) -> Setting:
    setting = s.record(Setting, kind=s.one_of("int", "float", "string"), values=s.several(s.text))(value, where)
    if setting.kind == "int":
        return Setting("int", tuple(_whole(item, f"{where}.values") for item in setting.values))
    if setting.kind == "float":
        for item in setting.values:
            try:
                float.fromhex(str(item))
            except (ValueError, OverflowError):
                raise _refuse(f"{where}.values", "floats in hexadecimal", item) from None
    return setting


_ELEMENTS = frozenset({"tensor(string)", *(dtype.tensor_type for dtype in BY_NAME.values())})

_port = s.record(Port, name=s.text, dtype=_dtype, dims=s.several(_amount))
_meta = s.record(
    Meta, producer_name=s.text, graph_name=s.text, domain=s.text, description=s.text, version=_whole,
    custom_metadata_map=s.mapping(s.text, s.text), graph_description=s.text,
)  # fmt: skip
_kernel = s.record(Kernel, name=s.text, nodes=s.several(s.count), flops=_amount, bytes=_amount)
_target = s.record(
    Target, target=s.text, features=s.several(s.text), payload=_file_name, weights=s.optional(_file_name),
    arena_bytes=_amount, scratch_bytes=s.count, peak_bytes=_amount, kernels=s.constant("details"),
    leaves=s.optional(_file_name), os=s.one_of("linux", "macos", "windows"),
    architecture=s.one_of("x86_64", "aarch64"), exports=s.several(s.text),
)  # fmt: skip
_edge = s.record(Edge, name=s.text, type=_edge_type, dims=s.optional(s.several(_amount)))
_literal = s.record(Literal, dtype=_literal_dtype, dims=s.several(s.count), values=s.several(s.text))
_step = s.record(
    Step, op=s.text, source=s.text, inputs=s.several(s.integer), outputs=s.count, settings=s.mapping(s.text, _setting)
)
_host = s.record(
    Host, inputs=s.several(_edge), outputs=s.several(_edge), constants=s.several(_literal), prologue=s.several(_step),
    feeds=s.several(s.count), epilogue=s.several(_step), results=s.several(s.count),
)  # fmt: skip
_slot = s.record(Slot, dtype=_dtype, rank=s.count)
_custom_call = s.record(
    CustomCall, label=_label, version=s.count, digest=s.digest, origin=s.text, attributes=_object_text,
    arguments=s.several(s.optional(_slot)), results=s.several(_slot), c_source=s.text,
)  # fmt: skip
_file = s.record(FileEntry, size=s.count, sha256=s.digest, crc32=_crc, role=s.one_of(*ROLES))
_outer = s.record(
    lambda _, *members: members,
    format=s.constant(FORMAT), vitrify=s.text, abi=s.digest, inputs=s.several(_port), outputs=s.several(_port),
    targets=s.several(_target), validation=_probes, files=s.mapping(_file_name, _file),
)  # fmt: skip
_details = s.record(
    lambda *members: members,
    meta=_meta, nodes=s.several(s.record(Node, name=s.text, op=s.text)), host=s.optional(_host),
    custom_calls=s.several(_custom_call), kernels=s.several(s.several(_kernel)),
)  # fmt: skip


def _check(manifest: Manifest) -> None:
    """Raises ManifestError where the parts of a manifest do not fit together."""
    for kind, ports in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        names = [port.name for port in ports]
        if len(set(names)) != len(names):
            raise _refuse(kind, "names that differ", names)
        for port in ports:
            _check_size(repr(port.name), port.dtype, port.dims)
    if not manifest.targets:
        raise _refuse("targets", "at least one target", [])
    used: dict[str, str] = {DETAILS: "details"}
    for target in manifest.targets:
        if (target.weights is None) != (target.leaves is None):
            raise _refuse("targets", "a list of digests for weights", target.leaves)
        parts = {target.payload: "payload", target.weights: "weights", target.leaves: "leaves"}
        used |= {name: role for name, role in parts.items() if name is not None}
        for kernel in target.kernels:
            if any(node >= len(manifest.nodes) for node in kernel.nodes):
                raise _refuse(f"kernel {kernel.name!r}", f"nodes below {len(manifest.nodes)}", kernel.nodes)
    required = {name: entry.role for name, entry in manifest.files.items() if entry.role in _USED_ROLES}
    if used != required:
        raise _refuse("files", f"for targets and details exactly {sorted(used)}", sorted(required))
    for role in ("sbom", "provenance"):
        if sum(entry.role == role for entry in manifest.files.values()) > 1:
            raise _refuse("files", f"at most one file for the role {role}", sorted(manifest.files))
    probes = {name: entry.size for name, entry in manifest.files.items() if entry.role == "probe"}
    if probes or manifest.validation:
        from .validation import check_probes

        check_probes(manifest.validation, manifest.inputs, manifest.outputs, probes)
    if manifest.host is not None:
        _check_host(manifest.host, len(manifest.inputs), len(manifest.outputs))


def _check_size(what: str, dtype: str, dims: tuple[int | str, ...]) -> None:
    """Raises SchemaError where no array could be so large; open dims count as 1, those of 0 too."""
    if len(dims) > _MAX_RANK:
        raise SchemaError(f"{what} has more dims than an array has", expected=_MAX_RANK, actual=len(dims))
    size = BY_NAME[dtype].itemsize if dtype in BY_NAME else _REFERENCE
    for dim in dims:
        size *= dim if isinstance(dim, int) and dim else 1
    if size >= 1 << 63:
        raise SchemaError(f"{what} has more bytes than can be addressed", expected="below 2**63", actual=size)


_MAX_RANK = 64
_REFERENCE = 8  # bytes of a string in an array
_USED_ROLES = ("payload", "weights", "leaves", "details")


def _check_host(host: Host, plan_inputs: int, plan_outputs: int) -> None:
    """Every value is made before it is read."""
    for kind, edges in (("inputs", host.inputs), ("outputs", host.outputs)):
        names = [edge.name for edge in edges]
        if len(set(names)) != len(names):
            raise _refuse(f"host.{kind}", "names that differ", names)
    for constant in host.constants:
        _check_size("a constant", constant.dtype, constant.dims)
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
    """What JSON has for it: integers that JSON's do not hold are text, as the schema reads them."""
    if isinstance(value, tuple):
        if isinstance(value, Setting):
            return {"kind": value.kind, "values": [str(item) for item in value.values]}
        if isinstance(value, Meta):
            return {**_members(value), "version": str(value.version)}
        if isinstance(value, FileEntry):
            return {**_members(value), "crc32": f"{value.crc32:08x}"}
        if isinstance(value, Target):
            return {**_members(value._replace(kernels=())), "kernels": "details"}
        return _members(value) if hasattr(value, "_asdict") else [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {_plain(name): _plain(member) for name, member in value.items()}
    if type(value) is int and value > canonical.MAX_INTEGER:
        return str(value)  # an amount: these may be texts
    # A damaged name may hold half of a surrogate pair; a description need not.
    return value.encode("utf-8", "replace").decode() if type(value) is str else value


def _members(value: Any) -> dict[str, Any]:
    return {name: _plain(member) for name, member in value._asdict().items()}


def encode_details(manifest: Manifest) -> bytes:
    """The bytes of ``details.json``. LimitError where there are more than 64 MiB."""
    encoded = canonical.dumps(
        {
            "meta": _plain(manifest.meta), "nodes": _plain(manifest.nodes), "host": _plain(manifest.host),
            "custom_calls": _plain(manifest.custom_calls),
            "kernels": [_plain(target.kernels) for target in manifest.targets],
        }
    )  # fmt: skip
    _details(canonical.loads(encoded, what=DETAILS, limit=MAX_DETAILS), "details")
    return encoded


def encode(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``; ``manifest.files`` has every file. Raises ManifestError for a manifest that
    would not parse back, LimitError for more than 1 MiB."""
    _check(manifest)
    encoded = canonical.dumps(
        {
            "format": FORMAT, "vitrify": manifest.vitrify, "abi": manifest.abi, "inputs": _plain(manifest.inputs),
            "outputs": _plain(manifest.outputs), "targets": _plain(manifest.targets),
            "validation": _plain(manifest.validation), "files": _plain(manifest.files),
        }
    )  # fmt: skip
    _outer(canonical.loads(encoded, what=MANIFEST, limit=canonical.MAX_BYTES), "manifest")
    return encoded


def parse(encoded: bytes, details: Callable[[FileEntry], bytes]) -> Manifest:
    """The manifest in two documents; ManifestError for anything but what :func:`encode` and :func:`encode_details`
    write. ``details`` gets the entry of the second one and gives its bytes, which it has compared with it."""
    vitrify, abi, inputs, outputs, targets, validation, files = _outer(_load(encoded), "manifest")
    if DETAILS not in files:
        raise _refuse("manifest.files", DETAILS, sorted(files))
    document = canonical.loads(details(files[DETAILS]), what=DETAILS, limit=MAX_DETAILS)
    meta, nodes, host, custom_calls, kernels = _details(document, "details")
    if len(kernels) != len(targets):
        raise _refuse("details.kernels", f"kernels of {len(targets)} targets", len(kernels))
    targets = tuple(target._replace(kernels=own) for target, own in zip(targets, kernels, strict=True))
    manifest = Manifest(vitrify, abi, meta, inputs, outputs, targets, nodes, files, host, custom_calls, validation)
    _check(manifest)
    return manifest


def _load(encoded: bytes) -> Any:
    document = canonical.loads(encoded, what=MANIFEST, limit=canonical.MAX_BYTES)
    found = document.get("format") if type(document) is dict else None
    if type(found) is str and found != FORMAT:
        raise ManifestError(
            "the artifact's format is not the one this version reads", expected=FORMAT, actual=found,
            hint="compile the model again with this version, or install the version that wrote the artifact",
        )  # fmt: skip
    return document

