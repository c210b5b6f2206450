from __future__ import annotations

import pytest

from vitrify.artifact.loading import Artifact

from .plans import Factory, compile_plan, write


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """The artifact of a plan by name, compiled once."""
    made: dict[str, Artifact] = {}
    folder = tmp_path_factory.mktemp("plans")

    def get(name: str) -> Artifact:
        if name not in made:
            made[name] = write(name, compile_plan(name, folder), folder / name)
        return made[name]

    return get
