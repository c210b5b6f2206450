"""What the compiler knows of a machine: data only."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitrify.errors import InvalidArgumentError
from vitrify.ir.dtypes import DType


@dataclass(frozen=True)
class Target:
    """``name`` is the payload's; ``cpu`` and ``features`` go to the C compiler.

    ``vector_bytes`` and ``vector_registers`` shape the tiles; cache sizes are per core, in bytes.
    """

    name: str
    cpu: str
    triple: str
    vector_bytes: int
    vector_registers: int
    features: tuple[str, ...] = ()
    l1_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    flags: tuple[str, ...] = field(default=())

    def lanes(self, dtype: DType) -> int:
        """Elements of ``dtype`` in one vector register."""
        return max(self.vector_bytes // dtype.itemsize, 1)

    def has(self, feature: str) -> bool:
        return feature in self.features

    @property
    def os(self) -> str:
        """linux, macos or windows, from the triple."""
        return next((os for os in ("macos", "windows") if os in self.triple), "linux")

    @property
    def arch(self) -> str:
        """x86_64 or aarch64."""
        return "x86_64" if self.triple.startswith("x86_64") else "aarch64"


V3 = Target("x86-64-v3", "x86_64_v3", "x86_64-linux-gnu", 32, 16)
V4 = Target("x86-64-v4", "x86_64_v4", "x86_64-linux-gnu", 64, 32, flags=("-mprefer-vector-width=512",))
AARCH64 = Target("aarch64", "generic", "aarch64-linux-gnu", 16, 32, l1_bytes=64 << 10)
MACOS_AARCH64 = Target("macos-aarch64", "apple-m1", "arm64-apple-macosx11.0", 16, 32, l1_bytes=64 << 10)
MACOS_X86_64 = Target("macos-x86_64", "x86_64_v3", "x86_64-apple-macosx11.0", 32, 16)
# without the flag, large frames would call a function of Microsoft's library
WINDOWS_X86_64 = Target(
    "windows-x86_64", "x86_64_v3", "x86_64-windows-gnu", 32, 16, flags=("-mno-stack-arg-probe",)
)
TARGETS = {t.name: t for t in (V3, V4, AARCH64, MACOS_AARCH64, MACOS_X86_64, WINDOWS_X86_64)}

# Extensions of v4 a payload may ask for, as the C compiler and /proc/cpuinfo spell them.
EXTENSIONS = {"vnni": "avx512vnni", "bf16": "avx512bf16", "amx-bf16": "amx-bf16", "amx-int8": "amx-int8"}


def with_extensions(target: Target, *extensions: str) -> Target:
    """``x86-64-v4`` plus extensions, named ``x86-64-v4+bf16``. InvalidArgumentError for unknown ones."""
    unknown = [e for e in extensions if e not in EXTENSIONS]
    if unknown or target.name != V4.name:
        raise InvalidArgumentError(
            f"extensions {unknown or list(extensions)} of {target.name}",
            expected=f"{V4.name} with some of {', '.join(EXTENSIONS)}",
        )
    from dataclasses import replace

    ordered = tuple(e for e in EXTENSIONS if e in extensions)
    return replace(target, name="+".join((target.name, *ordered)), features=ordered)
