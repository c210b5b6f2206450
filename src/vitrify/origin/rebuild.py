"""An artifact made once more from its provenance, in other surroundings, and compared byte by byte.

The second build runs in a process of its own: in another directory, time zone, locale, umask and hash seed, with
other temporary files and without any cache. All that the two may differ in is the signature.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from vitrify.artifact.comparison import Difference, compare
from vitrify.artifact.loading import Artifact, open_artifact
from vitrify.errors import IntegrityError, InvalidArgumentError, ManifestError, ToolchainError
from vitrify.origin.materials import Material, Materials, materials_of
from vitrify.origin.provenance import Provenance, parse_provenance
from vitrify.origin.recorded_options import recorded_options
from vitrify.runtime.probes import read_array

_PROVENANCE = "provenance.json"


class Rebuilt(NamedTuple):
    """``same``: every file but the signature has the same bytes. ``files`` are those that have not, ``differences``
    what tells the two artifacts apart. ``surroundings`` are those of the second build."""

    digest: str
    rebuilt: str
    files: tuple[str, ...]
    differences: tuple[Difference, ...]
    surroundings: Mapping[str, str]

    @property
    def same(self) -> bool:
        return self.digest == self.rebuilt and not self.files

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        differences = [difference._asdict() for difference in self.differences]
        return {
            "same": self.same, "digests": [self.digest, self.rebuilt], "files": list(self.files),
            "differences": differences, "surroundings": dict(self.surroundings),
        }  # fmt: skip


def rebuild(
    artifact: str | os.PathLike[str], model: str | os.PathLike[str], *, modules: Sequence[str] = ()
) -> Rebuilt:
    """Builds ``artifact`` again from ``model``, the file that it was made of; ``modules`` are imported first, where
    these register custom ops.

    Raises ManifestError for an artifact without provenance, IntegrityError where it is damaged or was made from
    another model, ToolchainError where versions here are others than those it was made with, and where the second
    build fails.
    """
    for module in modules:
        import_module(module)
    with Artifact(open_artifact(artifact), frozenset()) as original:
        original.verify()
        said = provenance_of(original)
        check_materials(said.materials, materials_of(model), os.fspath(artifact))
        with tempfile.TemporaryDirectory(prefix="vitrify-rebuild-") as folder:
            again = Path(folder, "a directory", "rebuilt.vit" if os.path.isfile(original.path) else "rebuilt")
            surroundings = _build_elsewhere(Path(original.path).resolve(), Path(model).resolve(), again, modules)
            return _compared(original, again, surroundings)


def provenance_of(artifact: Artifact) -> Provenance:
    """What the artifact says of its making. ManifestError where it says nothing."""
    if _PROVENANCE not in artifact.manifest.files:
        raise ManifestError(
            f"there is no {_PROVENANCE} in it", path=artifact.path, hint="compile the model: vitrify compile MODEL"
        )
    said = parse_provenance(artifact.read(_PROVENANCE))
    found = {name: entry.sha256 for name, entry in artifact.manifest.files.items()}
    for name, digest in said.built.items():
        if found.get(name) != digest:
            raise IntegrityError(
                f"the provenance is that of another {name}", path=artifact.path, expected=digest, actual=found.get(name)
            )
    return said


def check_materials(stated: Materials, here: Materials, path: str) -> None:
    """Raises IntegrityError for another model, ToolchainError for other versions."""
    if stated.model != here.model:
        pairs: list[tuple[str, str, str | None]] = [("the model", stated.model.sha256, here.model.sha256)]
        pairs += [(name, digest, dict(here.model.external).get(name)) for name, digest in stated.model.external]
        name, expected, actual = next((pair for pair in pairs if pair[1] != pair[2]), ("external data", "none", "some"))
        raise IntegrityError(
            f"the artifact was made from another model: {name} differs", path=path, expected=f"SHA-256 {expected}",
            actual=actual, hint="give the file that it was compiled from",
        )  # fmt: skip
    for kind, sides in (("versions", (stated.tools, here.tools)), ("custom ops", (stated.custom_ops, here.custom_ops))):
        before, now = ({material.name: material for material in side} for side in sides)
        other = [name for name in (*before, *now) if before.get(name) != now.get(name)]
        if other:
            names = list(dict.fromkeys(other))
            raise ToolchainError(
                f"{path}: other {kind} than it was made with", expected=_shown(before, names),
                actual=_shown(now, names), hint="install what the artifact's sbom.json lists",
            )  # fmt: skip


def _shown(materials: Mapping[str, Material], names: Sequence[str]) -> str:
    shown = []
    for name in names:
        found = materials.get(name)
        digest = f" (SHA-256 {found.sha256[:16]}…)" if found is not None and found.sha256 else ""
        shown.append(f"{name} {found.version if found is not None else 'absent'}{digest}")
    return ", ".join(shown)


def _build_elsewhere(artifact: Path, model: Path, again: Path, modules: Sequence[str]) -> dict[str, str]:
    """Runs the second build; what its surroundings were."""
    folder = again.parent
    (folder / "tmp").mkdir(parents=True)
    changed = {
        "TZ": "Pacific/Chatham" if os.environ.get("TZ") != "Pacific/Chatham" else "UTC",
        "LC_ALL": "C" if os.environ.get("LC_ALL") not in ("C", "POSIX") else "C.UTF-8",
        "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "1789" if os.environ.get("PYTHONHASHSEED") != "1789" else "1790",
        "TMPDIR": str(folder / "tmp"), "VITRIFY_TRUST_DIR": str(folder / "trust"),
        "VITRIFY_CACHE_DIR": str(folder / "cache"), "PYTHONUTF8": "1",
    }  # fmt: skip
    umask = os.umask(0)
    os.umask(umask)
    other_umask = 0o077 if umask != 0o077 else 0o022
    paths = [str(Path(__file__).resolve().parents[2]), *(os.path.abspath(path) for path in sys.path if path)]
    child = {k: v for k, v in os.environ.items() if k != "VITRIFY_DUMP"} | changed | {"PYTHONPATH": ":".join(paths)}
    command = [sys.executable, "-m", "vitrify.origin.rebuild", str(artifact), str(model), str(again), *modules]
    done = subprocess.run(command, cwd=folder, env=child, umask=other_umask, capture_output=True, text=True)
    if done.returncode:
        raise ToolchainError(f"the second build failed:\n{done.stderr.strip()[-4000:]}")
    return {**changed, "umask": f"{other_umask:03o}", "directory": str(folder)}


def _compared(original: Artifact, again: Path, surroundings: Mapping[str, str]) -> Rebuilt:
    with Artifact(open_artifact(again), frozenset()) as rebuilt:
        rebuilt.verify()
        before, after = original.manifest.files, rebuilt.manifest.files
        files = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if original.digest != rebuilt.digest:
            files.append("manifest.json")
        found = compare(original.path, again).differences
        differences = tuple(difference for difference in found if difference.area != "seal")
        return Rebuilt(original.digest, rebuilt.digest, tuple(files), differences, surroundings)


def build_again(artifact: str, model: str, path: str) -> None:
    """Compiles ``model`` as the provenance of ``artifact`` says, to ``path``, with no cache."""
    from vitrify.compiled import builder

    with Artifact(open_artifact(artifact), frozenset()) as original:
        said = provenance_of(original)
        probes = [
            {given.name: _native(original, given) for given in probe.inputs} for probe in original.manifest.validation
        ]
        options = recorded_options(said.options, probes)
    builder(model, options, targets=said.targets)(Path(path))


def _native(artifact: Artifact, given: Any) -> Any:
    from vitrify.ir.dtypes import BY_NAME

    return read_array(artifact, given).view(BY_NAME[given.dtype].numpy)


def main(arguments: Sequence[str]) -> None:
    """The second build's process."""
    artifact, model, path, *modules = arguments
    if not os.path.isabs(model):
        raise InvalidArgumentError("the model", expected="an absolute path", actual=model)
    for module in modules:
        import_module(module)
    build_again(artifact, model, path)


if __name__ == "__main__":
    main(sys.argv[1:])
