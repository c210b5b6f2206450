"""What figures depend on: the machine, what of it this process may use, and versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "onnx", "ziglang", "ml_dtypes", "onnxruntime", "openvino")


def machine_facts(packages: Sequence[str] = ("numpy", "onnxruntime", "openvino")) -> dict[str, Any]:
    """Numbers and texts by name, None for what this machine does not tell. ``load`` is the average of the last
    minute: figures taken beside other work are no better than it."""
    from vitrify.options import CompileOptions
    from vitrify.runtime.threads import available_cpus, cgroup_quota, physical_cores

    affinity = os.sched_getaffinity(0)
    return {
        "cpu": cpu_name(),
        "architecture": platform.machine(),
        "targets": list(CompileOptions().resolved_targets()),
        "cpus": os.cpu_count(),
        "affinity": sorted(affinity),
        "cores": physical_cores(affinity),
        "quota": cgroup_quota(),
        "usable": available_cpus(),
        "governor": _first(Path(f"/sys/devices/system/cpu/cpu{min(affinity)}/cpufreq/scaling_governor")),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions(packages),
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Of Vitrify, Python and the packages; None for those that are not installed."""
    import vitrify

    found: dict[str, str | None] = {"vitrify": vitrify.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def cpu_name() -> str:
    """As the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _first(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
