"""What this CPU can run, and which target of an artifact suits it best."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Sequence
from functools import cache

from ..artifact.manifest import Target
from ..artifact.record import Record
from ..errors import PlatformError

_X86_64_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})

#: Each target with the CPU features it implies (names as Linux gives them), the better ones later.
#: A target may ask for any other feature of Linux's list besides, such as avx512_vnni or amx_bf16.
TARGETS = {"x86-64-v3": _X86_64_V3, "x86-64-v4": _X86_64_V3 | _AVX512, "aarch64": frozenset({"asimd"})}
#: Targets of other systems, which are compiled for but never run by this process.
ELSEWHERE = ("macos-aarch64", "macos-x86_64", "windows-x86_64")
#: What each target's name says of the operating system and the architecture.
PLATFORMS = {
    "x86-64-v3": ("linux", "x86_64"), "x86-64-v4": ("linux", "x86_64"), "aarch64": ("linux", "aarch64"),
    "macos-aarch64": ("macos", "aarch64"), "macos-x86_64": ("macos", "x86_64"),
    "windows-x86_64": ("windows", "x86_64"),
}  # fmt: skip
_AMX = frozenset({"amx_tile", "amx_bf16", "amx_int8"})
_ARCHITECTURES = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}

# asm/hwcap.h of Linux for arm64: bits of AT_HWCAP and AT_HWCAP2
_HWCAP = {"asimd": 1, "asimdhp": 10, "asimddp": 20, "sve": 22}
_HWCAP2 = {"sve2": 1, "i8mm": 13, "bf16": 14}
_AT_HWCAP, _AT_HWCAP2 = 16, 26

# asm/prctl.h of Linux for x86
_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


class Cpu(Record):
    """``architecture`` is "x86-64" or "aarch64"; ``features`` are those that the operating system enables."""

    architecture: str
    features: frozenset[str]
    os: str = "linux"

    @property
    def platform(self) -> tuple[str, str]:
        """Operating system and architecture as manifests name them."""
        return self.os, self.architecture.replace("-", "_")


def parse_cpuinfo(text: str) -> frozenset[str]:
    """The features of the first CPU in the text of ``/proc/cpuinfo``."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _x86_features() -> frozenset[str]:
    # The kernel lists a feature only if it also saves its registers (XCR0), so no separate check of
    # that is needed. One CPU's block is enough: reading all takes milliseconds on large machines.
    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            text = b""
            while b"\n\n" not in text and (block := file.read(4096)):
                text += block
    except OSError:
        return frozenset()
    return parse_cpuinfo(text.decode("ascii", "replace"))


def hwcap_features(hwcap: int, hwcap2: int) -> frozenset[str]:
    """The features that arm64's two capability words state."""
    names = {name for name, bit in _HWCAP.items() if hwcap >> bit & 1}
    return frozenset(names | {name for name, bit in _HWCAP2.items() if hwcap2 >> bit & 1})


def _arm_features() -> frozenset[str]:
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    return hwcap_features(getauxval(_AT_HWCAP), getauxval(_AT_HWCAP2))


@cache
def detect() -> Cpu:
    """This machine's CPU. Raises PlatformError where artifacts do not run at all."""
    architecture = _ARCHITECTURES.get(platform.machine(), "")
    if not sys.platform.startswith("linux") or not architecture:
        raise PlatformError(
            "artifacts do not run on this platform", expected="Linux on x86-64 or aarch64",
            actual=f"{sys.platform} on {platform.machine()}",
        )  # fmt: skip
    return Cpu(architecture, _x86_features() if architecture == "x86-64" else _arm_features())


@cache
def request_amx() -> bool:
    """Asks the kernel to let this process use AMX's tile registers; whether it does."""
    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    return bool(syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0)


def supported_targets(cpu: Cpu) -> list[str]:
    """The names of the targets whose code runs on ``cpu``, best first."""
    fitting = [name for name, needs in TARGETS.items() if needs <= cpu.features]
    return fitting[::-1]


def _against(target: Target, cpu: Cpu) -> str:
    """Why ``target`` does not run on ``cpu``; empty where it does."""
    platform = PLATFORMS.get(target.target)
    if platform is None:
        return "is no known target"
    if platform != (target.os, target.architecture):
        return f"is a name for {' on '.join(platform)}, and not for {target.os} on {target.architecture}"
    if platform != cpu.platform:
        return f"is for {' on '.join(platform)}"
    missing = sorted((TARGETS[target.target] | set(target.features)) - cpu.features)
    if not missing and _AMX & set(target.features) and not request_amx():
        missing = ["the kernel's permission to use AMX"]
    return f"misses {', '.join(missing)}" if missing else ""


def choose(targets: Sequence[Target], cpu: Cpu) -> Target:
    """The best of ``targets`` that ``cpu`` runs: the higher level, then the one using more features.

    Asks for permission to use AMX when a target that would otherwise fit needs it. Raises PlatformError, naming what
    is against each target and what is here, when none fits: another operating system or architecture, a missing
    feature, a name that stands for another platform than the manifest says.
    """
    order = list(TARGETS)
    problems = []
    known = [t for t in targets if t.target in TARGETS]
    ranked = sorted(known, key=lambda t: (order.index(t.target), len(t.features)), reverse=True)
    for target in ranked + [t for t in targets if t.target not in TARGETS]:
        against = _against(target, cpu)
        if not against:
            return target
        problems.append(f"{' + '.join((target.target, *target.features))} {against}")
    here = " on ".join(cpu.platform)
    raise PlatformError(
        "no target of the artifact runs on this machine", expected="; ".join(problems),
        actual=f"{here} with {', '.join(supported_targets(cpu)) or 'none of the known targets'}",
        hint="compile the model for this machine's target",
    )  # fmt: skip
