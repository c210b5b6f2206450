"""What every test module shares: slow tests on request, reproducible examples, one thread per library."""

from __future__ import annotations

import os

# Before NumPy is imported anywhere: its BLAS reads these once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("VITRIFY_DEBUG", "1")  # every level's verifier runs

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")
    parser.addoption("--update-golden", action="store_true", help="record generated C anew")


def minutes(item: pytest.Item) -> float:
    """What the test's ``slow(minutes=…)`` says that it takes."""
    return max((float(mark.kwargs.get("minutes", 0)) for mark in item.iter_markers("slow")), default=0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        items.sort(key=minutes, reverse=True)  # nothing long is left for the end, where one worker would have it
        return
    skip = pytest.mark.skip(reason="slow: pass --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)
