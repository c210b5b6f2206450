"""A cache and a trust directory of their own for each test; objects are kept for all of them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(tmp_path / "trust"))
