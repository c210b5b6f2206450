from __future__ import annotations

import os
from pathlib import Path

import pytest

from vitrify.runtime import threads
from vitrify.runtime.threads import available_cpus, cgroup_quota, default_threads, physical_cores


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


V1 = "12:memory:/box\n4:cpu,cpuacct:/box/inner\n1:name=systemd:/box\n"
CASES: dict[str, tuple[dict[str, str], float | None]] = {
    "nothing at all": ({}, None),
    "v2, no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2, own limit": (
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"},
        1.5,
    ),
    "v2, the parent's is less": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
        },
        0.5,
    ),
    "v2, seen from inside a container": (
        {"proc/self/cgroup": "0::/../../outside\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "v2, nonsense": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "many few\n"}, None),
    "v2, zero period": ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "5 0\n"}, None),
    "v1": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "v1 under the short name, at the top": (
        {
            "proc/self/cgroup": "3:cpuset:/\n1:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000",
        },
        2.0,
    ),
    "v1, no limit": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/box/inner/cpu.cfs_period_us": "100000",
        },
        None,
    ),
    "another controller's limit": (
        {"proc/self/cgroup": "4:cpuset:/a\n", "sys/fs/cgroup/cpuset/a/cpu.cfs_quota_us": "1"},
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_quota(tmp_path: Path, case: str) -> None:
    files, expected = CASES[case]
    assert cgroup_quota(tree(tmp_path, files)) == expected


def test_cores(tmp_path: Path) -> None:
    siblings = {0: "0,4", 4: "0,4", 1: "1,5", 5: "1,5"}
    name = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = tree(tmp_path, {name.format(cpu): text + "\n" for cpu, text in siblings.items()})
    assert physical_cores({0, 1, 4, 5}, root) == 2
    assert physical_cores({0, 4}, root) == 1
    assert physical_cores({0, 8, 9}, root) == 3  # of 8 and 9 nothing is known


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.2, 1), (1.0, 1), (2.5, 3), (64.0, 8)])
def test_affinity_and_quota(monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int) -> None:
    monkeypatch.setattr(threads, "cgroup_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000, 1008)))
    assert available_cpus() == default_threads() == expected


def test_this_process() -> None:
    assert 1 <= default_threads() <= available_cpus() <= len(os.sched_getaffinity(0))
