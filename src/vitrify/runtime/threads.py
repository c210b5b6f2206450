"""How many threads a run may use: affinity, CPU quota of the control group, physical cores."""

from __future__ import annotations

import math
import os


def _read(*path: str) -> str:
    try:
        with open(os.path.join(*path), "rb") as file:
            return file.read().decode("ascii", "replace")
    except OSError:
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _levels(mount: str, group: str) -> list[str]:
    """The group's directory and its ancestors up to the mount point: each may carry a limit."""
    parts = [part for part in group.split("/") if part not in ("", "..")]
    return [os.path.join(mount, *parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota(limit: str, period: str) -> float | None:
    """CPUs' worth of time, or None for no limit."""
    numerator, denominator = _number(limit), _number(period)
    if numerator is None or denominator is None or numerator <= 0 or denominator <= 0:
        return None
    return numerator / denominator


def cgroup_quota(root: str = "/") -> float | None:
    """The least CPU quota that applies to this process, in CPUs, or None without one.

    Understands version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``), at the process's group
    and at every level above. ``root`` holds ``proc`` and ``sys``.
    """
    mounts = os.path.join(root, "sys/fs/cgroup")
    found: list[float | None] = []
    for line in _read(root, "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if hierarchy == "0" and not controllers:
            for level in _levels(mounts, group):
                limit = _read(level, "cpu.max").split()
                if len(limit) == 2:
                    found.append(_quota(*limit))
        elif "cpu" in controllers.split(","):
            for mount in {"cpu", "cpu,cpuacct", controllers}:
                for level in _levels(os.path.join(mounts, mount), group):
                    limit_us, period_us = (
                        _read(level, "cpu.cfs_quota_us"),
                        _read(level, "cpu.cfs_period_us"),
                    )
                    found.append(_quota(limit_us, period_us))
    return min((quota for quota in found if quota is not None), default=None)


def physical_cores(cpus: set[int], root: str = "/") -> int:
    """How many distinct cores ``cpus`` belong to; CPUs whose topology is not known count as cores."""
    base = os.path.join(root, "sys/devices/system/cpu")
    cores = set()
    for cpu in cpus:
        siblings = _read(base, f"cpu{cpu}/topology/thread_siblings_list").strip()
        cores.add(siblings or str(cpu))
    return len(cores)


def available_cpus() -> int:
    """CPUs this process may keep busy at once: its affinity, cut to the quota rounded up."""
    quota = cgroup_quota()
    count = len(os.sched_getaffinity(0))
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def default_threads() -> int:
    """Threads for a run unless told otherwise: one per physical core, within :func:`available_cpus`."""
    return min(available_cpus(), physical_cores(os.sched_getaffinity(0)))
