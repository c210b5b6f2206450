"""``vitrify doctor``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from rich.markup import escape
from rich.table import Table

from vitrify.cli.console import console
from vitrify.errors import VitrifyError


def examine(as_json: bool) -> bool:
    """Shows what compiling and running depend on here; whether all of it is in order."""
    facts: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, find in _CHECKS.items():
        try:
            facts[name] = find()
        except (VitrifyError, OSError) as error:
            facts[name] = None
            problems[name] = str(error)
    if as_json:
        json.dump({"facts": facts, "problems": problems}, sys.stdout, indent=1)
        print()
        return not problems
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        if name in problems:
            table.add_row(name, f"[bold red]✗[/] {escape(problems[name])}")
            continue
        for key, value in fact.items():
            table.add_row(name, f"[dim]{key}[/] {escape(str(value))}" if key else escape(str(value)))
            name = ""
    console().print(table)
    return not problems


def _versions() -> dict[str, Any]:
    from vitrify.benchmark.machine import versions

    return {"": ", ".join(f"{name} {number or 'not installed'}" for name, number in versions().items())}


def _cpu() -> dict[str, Any]:
    from vitrify.benchmark.machine import cpu_name
    from vitrify.options import CPU_FEATURES, CompileOptions
    from vitrify.runtime.cpu import detect, supported_targets

    cpu = detect()
    extensions = [name for name, needs in CPU_FEATURES.items() if needs <= cpu.features]
    return {
        "model": cpu_name(),
        "architecture": cpu.architecture,
        "runs": ", ".join(supported_targets(cpu)) or "none of the known targets",
        "extensions": ", ".join(extensions) or "none",
        "compiles for": ", ".join(CompileOptions().resolved_targets()),
    }


def _threads() -> dict[str, Any]:
    from vitrify.runtime.threads import available_cpus, cgroup_quota, default_threads, physical_cores

    affinity = os.sched_getaffinity(0)
    quota = cgroup_quota()
    return {
        "a run uses": default_threads(),
        "may use": f"{available_cpus()} CPUs",
        "because of": f"{len(affinity)} in the affinity, {physical_cores(affinity)} cores, "
        + ("no quota" if quota is None else f"a quota of {quota:g}"),
    }


def _compiler() -> dict[str, Any]:
    from vitrify.lower.target import V3
    from vitrify.toolchain.zig import Compiler

    compiler = Compiler()
    objects = compiler.compile_objects({"doctor": "int vt_doctor(int x) { return x + 1; }"}, V3)
    size = len(compiler.link(objects, V3))
    return {
        "version": compiler.version,
        "program": str(compiler.program),
        "works": f"a test library of {size} bytes",
    }


def _cache() -> dict[str, Any]:
    from vitrify.cache import Cache

    cache = Cache()
    count, size = cache.size()
    where = cache.directory
    while not where.exists():
        where = where.parent
    writable = os.access(where, os.W_OK)
    return {
        "directory": str(cache.directory),
        "holds": f"{count} entries, {size / 1e6:.1f} MB of at most {cache.limit / 1e6:,.0f} MB",
        "writable": "yes" if writable else "no: what is compiled is not kept",
    }


_CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "versions": _versions,
    "cpu": _cpu,
    "threads": _threads,
    "compiler": _compiler,
    "cache": _cache,
}
