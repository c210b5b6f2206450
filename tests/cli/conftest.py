"""A directory of trust and a cache for each test module, where tests of the command line may change both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitrify.cli import main

from .sealed import save_model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with ``model.onnx`` and ``model.vit``, which carries one probe; the machine key that signed it is in
    ``trust``."""
    folder = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITRIFY_TRUST_DIR", str(folder / "trust"))
        patch.setenv("VITRIFY_CACHE_DIR", str(folder / "cache"))
        model = save_model(folder / "model.onnx")
        assert main(["compile", str(model), "-o", str(folder / "model.vit"), "--probe", "1", "--product", "vad"]) == 0
    yield folder


@pytest.fixture
def artifact(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``model.vit`` that the test may change, and a copy of the directory of trust beside it."""
    import shutil

    trust = tmp_path / "trust"
    shutil.copytree(built / "trust", trust)
    os.chmod(trust, 0o700)
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(trust))
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(built / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    shutil.copy(built / "model.vit", tmp_path / "a.vit")
    return tmp_path / "a.vit"
