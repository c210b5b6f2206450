"""IntegrityError: files that are missing, unlisted, or not the ones that were signed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vitrify.errors import IntegrityError

from .forge import LEAF, LEAVES, PAYLOAD, WEIGHTS, Parts, base, described, write_folder
from .table import attack, changed, members

_FILES = ("details.json", LEAVES, PAYLOAD, WEIGHTS)


def _flipped(name: str, at: Callable[[int], int]) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        content = bytearray(files[name])
        content[at(len(content))] ^= 1
        files[name] = bytes(content)

    return change


for _name in _FILES:
    for _where, _at in {"first": lambda n: 0, "middle": lambda n: n // 2, "last": lambda n: n - 1}.items():
        attack(
            f"integrity/flip-{_name.replace('/', '-')}-{_where}", IntegrityError,
            "not what was signed|is not the one|leaf", members(_flipped(_name, _at), folder=True),
            stage="load" if _name == "details.json" else "run",
        )  # fmt: skip
    attack(
        f"integrity/truncated-{_name.replace('/', '-')}", IntegrityError, "wrong size",
        members(lambda files, n=_name: files.update({n: files[n][:-1]}), folder=True),  # type: ignore[misc]
    )  # fmt: skip
    attack(
        f"integrity/longer-{_name.replace('/', '-')}", IntegrityError, "wrong size",
        members(lambda files, n=_name: files.update({n: files[n] + b"\0"}), folder=True),  # type: ignore[misc]
    )  # fmt: skip
    attack(
        f"integrity/missing-{_name.replace('/', '-')}", IntegrityError, "missing",
        members(lambda files, n=_name: files.pop(n)),  # type: ignore[misc]
    )  # fmt: skip
for _where, _at in {"first": lambda n: 0, "second-leaf": lambda n: LEAF, "last": lambda n: n - 1}.items():
    # the archive's checksums are those of the manifest: who changes weights in place leaves them
    def _write(path: Path, at: Callable[[int], int] = _at) -> None:
        changed(lambda parts: None)(path)
        weights = base().files[WEIGHTS]
        found = bytearray(path.read_bytes())
        found[found.index(weights) + at(len(weights))] ^= 1
        path.write_bytes(found)

    attack(f"integrity/flip-in-archive-{_where}", IntegrityError, "leaf", _write, stage="run")

attack("integrity/unlisted", IntegrityError, "unlisted", members(lambda f: f.update({"more": b""})))
attack("integrity/unlisted-payload", IntegrityError, "unlisted", members(
    lambda f: f.update({"payload/x86-64-v4.so": f[PAYLOAD]})))  # fmt: skip
attack("integrity/unlisted-in-folder", IntegrityError, "unlisted", members(
    lambda f: f.update({"payload/libc.so.6": b"x"}), folder=True))  # fmt: skip


def _swapped(parts: Parts) -> None:
    """Two targets whose payloads are exchanged after they were listed."""
    other = bytes(reversed(parts.files[PAYLOAD]))
    name = "payload/x86-64-v4.so"
    parts.manifest["files"][name] = {**described(other), "role": "payload"}
    parts.manifest["targets"].append({**parts.target, "target": "x86-64-v4", "payload": name})
    add_kernels(parts)
    parts.files[name], parts.files[PAYLOAD] = parts.files[PAYLOAD], other
    parts.list_files(name, PAYLOAD)


def add_kernels(parts: Parts) -> None:
    """Kernels of one more target."""
    import json

    from .forge import dumps

    document = json.loads(parts.files["details.json"])
    document["kernels"].append(document["kernels"][0])
    parts.files["details.json"] = dumps(document)


attack("integrity/swapped", IntegrityError, "is not the one that was signed", changed(
    _swapped, folder=True), stage="run")  # fmt: skip


def _reordered(parts: Parts) -> None:
    """Two leaves exchanged, and listed as they are: only their list says where each belongs."""
    data = parts.files[WEIGHTS]
    parts.files[WEIGHTS] = data[LEAF : 2 * LEAF] + data[:LEAF] + data[2 * LEAF :]
    parts.list_files()


def _reordered_list(parts: Parts) -> None:
    data = parts.files[LEAVES]
    parts.files[LEAVES] = data[32:64] + data[:32] + data[64:]
    parts.list_files()


def _shorter_list(parts: Parts) -> None:
    parts.files[LEAVES] = parts.files[LEAVES][:-32]
    parts.list_files()


attack("integrity/reordered-leaves", IntegrityError, "leaf 0", changed(_reordered), stage="run")
attack("integrity/reordered-list", IntegrityError, "leaf 0", changed(_reordered_list), stage="run")
attack("integrity/list-too-short", IntegrityError, "not as long as their list", changed(_shorter_list), stage="run")


def _sidecars(path: Path) -> None:
    """Weights and their list of digests rewritten together, which fits, but is not what the manifest lists."""
    parts = base()
    signed = parts.members()
    parts.files[WEIGHTS] = bytes(len(parts.files[WEIGHTS]))
    parts.list_leaves()
    write_folder(path, {**signed, **parts.files})


def _another_machine(path: Path) -> None:
    """The library of another target, under this one's name."""
    from tests.artifact.gate.libraries import payload

    library = payload("aarch64")
    files = base().members()
    size = len(files[PAYLOAD])
    write_folder(path, {**files, PAYLOAD: library[:size].ljust(size, b"\0")})


attack("integrity/sidecars", IntegrityError, "not what was signed", _sidecars, stage="run")
attack("integrity/another-machine", IntegrityError, "is not the one that was signed", _another_machine, stage="run")
