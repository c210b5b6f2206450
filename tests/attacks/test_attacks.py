"""Every attack is refused for its reason, before anything is mapped, in little time and memory."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vitrify import InferenceSession
from vitrify.artifact.loading import load_artifact
from vitrify.errors import ContainerError
from vitrify.runtime.session import Session

from . import forge
from .table import Attack, attacks

ALL = {attack.name: attack for attack in attacks()}
SECONDS = 1.0
BYTES = 48 << 20  # Python's memory; most attacks stay below one MiB
_EVENTS: list[str] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "ctypes.dlopen" and arguments[0] is not None:
        _EVENTS.append(str(arguments[0]))


sys.addaudithook(_hook)


def _mapped() -> int:
    """How many payloads are mapped: files in memory."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        return sum("/memfd:payload" in line for line in maps)


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The first session of a process resolves what all share."""
    path = tmp_path_factory.mktemp("good") / "a.vit"
    forge.write_file(path, forge.base().members())
    forge.write_trust(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(path)))
        _EVENTS.clear()
        session = Session(str(path))
        assert [event for event in _EVENTS if event.startswith("/proc/self/fd/")] and _mapped()
        expected = session.run(None, forge.FEED)[0]
        folder = path.with_name("folder")
        forge.write_folder(folder, forge.base().members())
        for kind in (str(path), str(folder)):
            assert np.array_equal(InferenceSession(kind).run(None, forge.FEED)[0], expected)
            load_artifact(kind).verify()
    yield


def meet(attack: Attack, path: Path) -> None:
    """What a program that uses the artifact does."""
    artifact = load_artifact(path)
    if attack.stage == "verify":
        artifact.verify()
    if attack.stage == "run":
        Session(artifact).run(None, forge.FEED)


@pytest.mark.parametrize("name", ALL)
def test_attacks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = ALL[name]
    path = tmp_path / "place" / "a.vit"
    path.parent.mkdir()
    attack.write(path)
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(path)))
    before = _mapped()
    _EVENTS.clear()
    start = time.process_time()
    with pytest.raises(attack.error, match=f"(?s){attack.message}") as caught:
        meet(attack, path)
    assert time.process_time() - start < SECONDS
    assert type(caught.value) is attack.error and caught.value.code == attack.code
    assert attack.mapped or (not _EVENTS and _mapped() == before)
    assert len(str(caught.value)) < 10_000
    del caught
    tracemalloc.start()
    try:
        with pytest.raises(attack.error):
            meet(attack, path)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    if attack.stage != "verify" and path.exists():  # what does not exist may have been meant as a model
        with pytest.raises(attack.error):
            InferenceSession(str(path)).run(None, forge.FEED)
    assert attack.mapped or (not _EVENTS and _mapped() == before)


def test_paths_that_are_none() -> None:
    for path in ("", "a\0b", "\ud800", "x" * 5000, "/dev/null/a.vit"):
        with pytest.raises(ContainerError, match="cannot be opened"):
            load_artifact(path)
