from __future__ import annotations

import pytest

from vitrify.artifact.manifest import Target
from vitrify.errors import PlatformError
from vitrify.runtime import cpu
from vitrify.runtime.cpu import TARGETS, Cpu, choose, detect, hwcap_features, parse_cpuinfo, supported_targets

V3 = Cpu("x86-64", TARGETS["x86-64-v3"])
V4 = Cpu("x86-64", TARGETS["x86-64-v4"] | {"avx512_vnni"})
ARM = Cpu("aarch64", hwcap_features(1 << 1 | 1 << 20, 1 << 13))


def target(name: str, *features: str) -> Target:
    system, machine = cpu.PLATFORMS.get(name, ("linux", "x86_64"))
    return Target(name, features, "p.so", None, 0, 0, 0, os=system, architecture=machine)


def test_cpuinfo() -> None:
    text = "processor\t: 0\nflags\t\t: fpu avx2 fma\nbugs\t\t: x\n\nprocessor\t: 1\nflags\t\t: none\n"
    assert parse_cpuinfo(text) == {"fpu", "avx2", "fma"}
    assert parse_cpuinfo("") == frozenset()


def test_hwcap() -> None:
    assert ARM.features == {"asimd", "asimddp", "i8mm"}
    assert hwcap_features(0, 0) == frozenset()


def test_supported_targets_are_best_first() -> None:
    assert supported_targets(V4) == ["x86-64-v4", "x86-64-v3"]
    assert supported_targets(V3) == ["x86-64-v3"]
    assert supported_targets(ARM) == ["aarch64"]
    assert supported_targets(Cpu("x86-64", frozenset({"avx"}))) == []


def test_the_best_fitting_target_is_chosen() -> None:
    all_of_them = [
        target("x86-64-v3"),
        target("aarch64"),
        target("x86-64-v4", "avx512_vnni"),
        target("x86-64-v4"),
        target("x86-64-v4", "avx512_vnni", "avx512_bf16"),
    ]
    assert choose(all_of_them, V4) == all_of_them[2]
    assert choose(all_of_them, V3) == all_of_them[0]
    assert choose(all_of_them, ARM) == all_of_them[1]
    assert choose([target("from-the-future"), *all_of_them], V3) == all_of_them[0]


def test_refusal_says_what_each_target_misses() -> None:
    with pytest.raises(PlatformError) as caught:
        choose([target("x86-64-v4", "amx_bf16"), target("aarch64"), target("riscv")], V3)
    text = str(caught.value)
    assert "x86-64-v4 + amx_bf16 misses amx_bf16, avx512bw" in text
    assert "aarch64 is for linux on aarch64" in text and "riscv is no known target" in text
    assert "linux on x86_64 with x86-64-v3" in text


def test_the_operating_system_counts() -> None:
    all_of_them = [target(name) for name in cpu.PLATFORMS]
    assert choose(all_of_them, V4).target == "x86-64-v4" and choose(all_of_them, ARM).target == "aarch64"
    elsewhere = [target(name) for name in cpu.ELSEWHERE]
    for machine in (V4, ARM):
        with pytest.raises(PlatformError, match="macos-aarch64 is for macos on aarch64") as caught:
            choose(elsewhere, machine)
        assert caught.value.code == 15
    for system, machine in cpu.PLATFORMS.values():
        for one in all_of_them:
            labelled = one._replace(os=system, architecture=machine)
            if (system, machine) != (one.os, one.architecture):
                with pytest.raises(PlatformError, match=r"is a name for|is for"):
                    choose([labelled], ARM if machine == "aarch64" else V4)


@pytest.mark.parametrize("granted", [True, False])
def test_amx_needs_the_kernels_permission(monkeypatch: pytest.MonkeyPatch, granted: bool) -> None:
    asked = []
    monkeypatch.setattr(cpu, "request_amx", lambda: asked.append(1) or granted)
    machine = Cpu("x86-64", V4.features | {"amx_tile", "amx_bf16"})
    amx, plain = target("x86-64-v4", "amx_tile", "amx_bf16"), target("x86-64-v4")
    assert choose([plain], machine) == plain and not asked
    assert choose([plain, amx], machine) == (amx if granted else plain) and asked
    if not granted:
        with pytest.raises(PlatformError, match="permission to use AMX"):
            choose([amx], machine)


def test_this_machine() -> None:
    found = detect()
    assert found.architecture in ("x86-64", "aarch64") and supported_targets(found)
    if "amx_tile" in found.features:
        assert isinstance(cpu.request_amx(), bool)


def test_other_platforms_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(PlatformError, match="riscv64"):
        detect.__wrapped__()
