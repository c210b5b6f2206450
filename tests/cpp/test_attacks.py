"""Every artifact that lies is refused by the C++ loader with the exit status of Python's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attacks import forge
from tests.attacks.table import Attack, attacks
from tests.cpp.conftest import Loader

ALL = {attack.name: attack for attack in attacks()}


def meet(loader: Loader, attack: Attack, folder: Path) -> tuple[int, str]:
    """The exit status of a program that uses the artifact, and what it said."""
    path = folder / "place" / "a.vit"
    path.parent.mkdir()
    attack.write(path)
    (folder / "in.0").write_bytes(b"x0\nf32 3 %d\n" % forge.SIZE + forge.FEED["x0"].tobytes())
    done = loader(
        attack.stage, path, "--feed", folder, environment={"VITRIFY_TRUST_DIR": str(forge.trust_of(path))}
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("name", ALL)
def test_attacks(name: str, sanitized: Loader, tmp_path: Path) -> None:
    attack = ALL[name]
    status, said = meet(sanitized, attack, tmp_path)
    assert status == attack.code, said
    assert said.startswith(f"{attack.error.__name__}: "), said
    assert len(said) < 10_000


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("stage", ["load", "verify", "run"])
def test_what_is_sound_is_taken(kind: str, stage: str, sanitized: Loader, tmp_path: Path) -> None:
    path = tmp_path / ("a.vit" if kind == "file" else "a")
    (forge.write_file if kind == "file" else forge.write_folder)(path, forge.base().members())
    forge.write_trust(path)
    (tmp_path / "in.0").write_bytes(b"x0\nf32 3 %d\n" % forge.SIZE + forge.FEED["x0"].tobytes())
    done = sanitized(stage, path, "--feed", tmp_path, environment={"VITRIFY_TRUST_DIR": str(forge.trust_of(path))})
    assert done.returncode == 0 and not done.stderr, done.stderr
