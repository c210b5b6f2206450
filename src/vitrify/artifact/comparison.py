"""Two artifacts told apart by what matters: interface, kernels, code, weights, the model's own words, the seal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from .examination import seal_as_dict
from .loading import Artifact, open_artifact
from .manifest import Kernel, Manifest, Target
from .weights import LEAF_BYTES

AREAS = ("interface", "targets", "kernels", "weights", "details", "seal")
_DIGEST = 32


class Difference(NamedTuple):
    """One thing that differs: in which of ``AREAS``, what it is, and its two values; None where it is not there."""

    area: str
    what: str
    before: str | None
    after: str | None


class Comparison(NamedTuple):
    """``same`` where nothing differs. The digests are the two manifests'."""

    before: str
    after: str
    digests: tuple[str, str]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "before": self.before, "after": self.after, "digests": list(self.digests), "same": self.same,
            "differences": [difference._asdict() for difference in self.differences],
        }  # fmt: skip


def compare(before: str | os.PathLike[str], after: str | os.PathLike[str]) -> Comparison:
    """What tells the artifacts at two paths apart, whoever signed them. Contents of files are compared by the digests
    in the manifests; nothing is mapped. Raises ArtifactError for what is no artifact."""
    with Artifact(open_artifact(before), frozenset()) as old, Artifact(open_artifact(after), frozenset()) as new:
        found = tuple(_differences(old, new))
        return Comparison(old.path, new.path, (old.digest, new.digest), found)


def _differences(old: Artifact, new: Artifact) -> Iterator[Difference]:
    before, after = old.manifest, new.manifest
    yield from _interface(before, after)
    targets = _by_target(before), _by_target(after)
    yield from _mapped("targets", *({name: _stated(one) for name, one in side.items()} for side in targets))
    for name in sorted(targets[0].keys() & targets[1].keys()):
        yield from _code(name, before, after, targets[0][name], targets[1][name])
        yield from _weights(name, old, new, targets[0][name], targets[1][name])
    yield from _details(before, after)
    yield from _mapped("seal", _seal(old), _seal(new))


def _interface(before: Manifest, after: Manifest) -> Iterator[Difference]:
    for kind in ("inputs", "outputs"):
        sides = [_ports(getattr(manifest.host or manifest, kind)) for manifest in (before, after)]
        yield from _mapped("interface", *({f"{kind[:-1]} {n}": text for n, text in side.items()} for side in sides))
        orders = [list(side) for side in sides]
        if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
            yield Difference("interface", f"order of {kind}", ", ".join(orders[0]), ", ".join(orders[1]))
    if before.abi != after.abi:
        yield Difference("interface", "ABI", before.abi, after.abi)


def _ports(ports: Iterable[Any]) -> dict[str, str]:
    return {port.name: f"{getattr(port, 'type', None) or port.dtype} {_dims(port.dims)}".strip() for port in ports}


def _dims(dims: Iterable[int | str] | None) -> str:
    return "" if dims is None else f"[{', '.join(map(str, dims))}]"


def _by_target(manifest: Manifest) -> dict[str, Target]:
    return {"+".join((target.target, *target.features)): target for target in manifest.targets}


def _stated(target: Target) -> str:
    return f"arena {target.arena_bytes}, scratch {target.scratch_bytes}, peak {target.peak_bytes} bytes"


def _code(name: str, before: Manifest, after: Manifest, old: Target, new: Target) -> Iterator[Difference]:
    """Kernels by name: how often each is called, and the work of its calls; and the code of all of them."""
    sides = [{kernel: _work(calls) for kernel, calls in _calls(target).items()} for target in (old, new)]
    yield from _mapped("kernels", *({f"{name}: {kernel}": work for kernel, work in side.items()} for side in sides))
    entries = before.files[old.payload], after.files[new.payload]
    if entries[0].sha256 != entries[1].sha256:
        texts = [f"{entry.size:,} bytes, SHA-256 {entry.sha256[:16]}…" for entry in entries]
        yield Difference("kernels", f"{name}: code", texts[0], texts[1])


def _calls(target: Target) -> dict[str, list[Kernel]]:
    found: dict[str, list[Kernel]] = {}
    for kernel in target.kernels:
        found.setdefault(kernel.name, []).append(kernel)
    return found


def _work(calls: list[Kernel]) -> str:
    parts = [f"{flops} FLOP and {size} bytes" for flops, size in Counter((k.flops, k.bytes) for k in calls)]
    return f"{len(calls)} × {'; '.join(parts)}"


def _weights(name: str, old: Artifact, new: Artifact, before: Target, after: Target) -> Iterator[Difference]:
    """By the lists of digests: how many leaves differ, and from which byte on."""
    sides = []
    for artifact, target in ((old, before), (new, after)):
        size = artifact.manifest.files[target.weights].size if target.weights else 0
        sides.append((size, artifact.read(target.leaves) if target.leaves else b""))
    (old_size, old_leaves), (new_size, new_leaves) = sides
    if (old_size, old_leaves) == (new_size, new_leaves):
        return
    longest = max(len(old_leaves), len(new_leaves))
    other = [at for at in range(0, longest, _DIGEST) if old_leaves[at : at + _DIGEST] != new_leaves[at : at + _DIGEST]]
    larger = max(old_size, new_size)
    first = [at // _DIGEST * LEAF_BYTES for at in other]
    changed = sum(min(LEAF_BYTES, max(larger - start, 0)) for start in first)
    which = f"{len(other):,} of {longest // _DIGEST:,} leaves, {changed:,} bytes, from byte {first[0]:,}"
    texts = [
        f"{size:,} bytes, SHA-256 {artifact.manifest.files[target.weights].sha256[:16]}…" if target.weights else "none"
        for artifact, target, size in ((old, before, old_size), (new, after, new_size))
    ]
    yield Difference("weights", f"{name}: {which}", texts[0], texts[1])


def _details(before: Manifest, after: Manifest) -> Iterator[Difference]:
    texts = []
    for manifest in (before, after):
        words = {name: str(value) for name, value in manifest.meta._asdict().items() if name != "custom_metadata_map"}
        words |= {f"metadata {name}": value for name, value in manifest.meta.custom_metadata_map.items()}
        words |= {f"nodes: {op}": str(number) for op, number in Counter(node.op for node in manifest.nodes).items()}
        words |= {f"custom op {c.label}": f"version {c.version}, {c.digest[:16]}…" for c in manifest.custom_calls}
        words |= {"written by": f"vitrify {manifest.vitrify}"}
        other = ((n, e.sha256) for n, e in manifest.files.items() if e.role not in _COMPARED)
        words |= {f"file {name}": f"SHA-256 {digest[:16]}…" for name, digest in other}
        texts.append(words)
    yield from _mapped("details", texts[0], texts[1])
    if before.validation != after.validation:
        yield Difference("details", "probes", *(f"{len(one.validation)} runs" for one in (before, after)))
    if before.host != after.host:
        yield Difference("details", "what sessions do in Python", _steps(before), _steps(after))


def _steps(manifest: Manifest) -> str:
    host = manifest.host
    return "nothing" if host is None else f"{len(host.prologue) + len(host.epilogue)} steps"


_COMPARED = ("payload", "weights", "leaves", "details")


def _seal(artifact: Artifact) -> dict[str, str]:
    opened = artifact.opened
    if opened.seal is None or opened.signed is None:
        return {"signed": "no"}
    words = seal_as_dict(opened.seal) or {}
    said = {name: "none" if value in (None, "") else str(value) for name, value in words.items()}
    for name in ("manifest", "sbom", "provenance"):  # digests of what is compared above
        said.pop(name, None)
    return {"signed": "yes", **said, **{f"signed by {key[:16]}…": "yes" for key in opened.signed.signatures}}


def _mapped(area: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield Difference(area, name, before.get(name), after.get(name))
