"""Six platforms from one build: what their payloads are, which is chosen, and two of them run for real.

The payload of aarch64 runs under QEMU where Debian's ``qemu-user-static`` and ``libc6-arm64-cross`` are installed, that
of Windows where ``wine64`` is; without these the tests say so and are skipped.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import lief
import numpy as np
import onnx
import pytest
from elftools.elf.elffile import ELFFile

import vitrify
from vitrify.artifact.gate import Platform, examine
from vitrify.artifact.loading import Artifact
from vitrify.artifact.manifest import Target
from vitrify.cli import main
from vitrify.codegen.c.native import include_directory
from vitrify.errors import PlatformError
from vitrify.runtime.cpu import ELSEWHERE, PLATFORMS
from vitrify.runtime.probes import difference, read_array
from vitrify.toolchain.locate import locate

from .models import ALL_TARGETS, convolutions, dense

_CPUS = {"x86_64": lief.Header.ARCHITECTURES.X86_64, "aarch64": lief.Header.ARCHITECTURES.ARM64}
_FORMATS = {
    "linux": lief.Binary.FORMATS.ELF, "macos": lief.Binary.FORMATS.MACHO, "windows": lief.Binary.FORMATS.PE
}  # fmt: skip
_WINE = "/usr/lib/wine"
_ARM_LIBC = Path("/usr/aarch64-linux-gnu")


@pytest.fixture
def artifact() -> Iterator[Artifact]:
    with vitrify.compile(dense(), targets=ALL_TARGETS, probes=2) as found:
        yield found


def by_name(artifact: Artifact) -> dict[str, Target]:
    return {target.target: target for target in artifact.manifest.targets}


def test_one_artifact_has_them_all(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    targets = by_name(artifact)
    assert tuple(targets) == ALL_TARGETS == (*(t for t in PLATFORMS if t in ALL_TARGETS),)
    for name, target in targets.items():
        assert (target.os, target.architecture) == PLATFORMS[name]
        assert target.exports == ("vt_payload",)
        image = artifact.payload(target).image  # which examined it
        with pytest.raises(PlatformError):
            other = Platform(target.os, "aarch64" if target.architecture == "x86_64" else "x86_64")
            examine(image, other, target.exports, path="payload")
        parsed = lief.parse(io.BytesIO(image))
        assert parsed is not None and parsed.format == _FORMATS[target.os]
        assert parsed.abstract.header.architecture == _CPUS[target.architecture]
        imported = {function.name for function in parsed.imported_functions}
        assert imported <= ({"dyld_stub_binder"} if target.os == "macos" else set())  # of libSystem, never called
        if target.os == "linux":
            elf = ELFFile(io.BytesIO(image))
            assert elf.header.e_machine == {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}[target.architecture]
            assert not any(segment.header.p_type == "PT_INTERP" for segment in elf.iter_segments())
    artifact.verify()
    assert main(["inspect", artifact.path, "--format", "json"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ALL_TARGETS)


def test_the_same_constants_lie_there_once(artifact: Artifact) -> None:
    used = [target.weights for target in artifact.manifest.targets]
    stored = [name for name, entry in artifact.manifest.files.items() if entry.role == "weights"]
    assert set(used) == set(stored) and len(stored) < len(used)
    assert len({artifact.manifest.files[name].sha256 for name in stored}) == len(stored)
    x = np.ones((2, 7), np.float32)
    assert vitrify.InferenceSession(artifact.path).run(["z"], {"x": x})[0].shape == (2, 5)


def test_an_artifact_for_elsewhere_alone_is_refused() -> None:
    artifact = vitrify.compile(dense(), targets=ELSEWHERE)
    with pytest.raises(PlatformError, match=r"macos-aarch64 is for macos on aarch64.*got linux") as raised:
        vitrify.InferenceSession(artifact.path)
    assert raised.value.code == 15
    artifact.verify()


def built_caller(folder: Path, triple: str, name: str) -> Path:
    """The program that runs payloads, for another platform."""
    places = {f"ZIG_{kind}_CACHE_DIR": str(folder / "zig") for kind in ("LOCAL", "GLOBAL")}
    source = Path(__file__).with_name("caller.c")
    command = [str(locate().path), "cc", "-target", triple, "-O1", f"-I{include_directory()}", str(source)]
    if "linux" in triple:
        command += ["-ldl", "-lpthread"]
    subprocess.run([*command, "-o", str(folder / name)], check=True, timeout=600, env={**os.environ, **places})
    return folder / name


def run_probes(artifact: Artifact, target: Target, command: list[str], folder: Path, threads: int) -> int:
    """Every probe by ``command``, compared with what the artifact awaits and with what this machine's code gives."""
    session = vitrify.InferenceSession(artifact.path)
    payload = folder / ("payload.dll" if target.os == "windows" else "payload.so")
    payload.write_bytes(artifact.read(target.payload))
    weights = "-"
    if target.weights is not None:
        weights = str(folder / "weights")
        Path(weights).write_bytes(artifact.read(target.weights))
    for index, probe in enumerate(artifact.manifest.validation):
        results, given, feed = folder / f"{index}", [], {}
        results.mkdir()
        for number, array in enumerate(probe.inputs):
            path = folder / f"{index}-input-{number}"
            path.write_bytes(artifact.read(array.file))
            given.append(f"{path}:{','.join(map(str, array.dims))}")
            feed[array.name] = read_array(artifact, array)
        done = subprocess.run(
            [*command, str(payload), weights, str(threads), str(results), *given], capture_output=True, text=True,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for number, (awaited, native) in enumerate(zip(probe.outputs, session.run(None, feed), strict=True)):
            dims = tuple(map(int, (results / f"{number}.dims").read_text().split()))
            found = np.frombuffer((results / str(number)).read_bytes(), native.dtype).reshape(dims)
            assert dims == awaited.dims
            tolerance = float.fromhex(awaited.tolerance or "0x0p+0")
            assert difference(found, native, awaited.dtype, tolerance) is None
            if awaited.file is not None:
                assert difference(found, read_array(artifact, awaited), awaited.dtype, tolerance) is None
    return len(artifact.manifest.validation)


@pytest.mark.slow(minutes=1)
def test_aarch64_under_qemu(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None or not (_ARM_LIBC / "lib" / "ld-linux-aarch64.so.1").exists():
        pytest.skip("needs qemu-aarch64 and a libc: apt-get install qemu-user-static libc6-arm64-cross")
    caller = built_caller(tmp_path, "aarch64-linux-gnu.2.31", "caller")
    models: list[onnx.ModelProto] = [dense(), convolutions(), dense(193)]
    for index, model in enumerate(models):
        artifact = vitrify.compile(model, targets=("x86-64-v3", "aarch64"), probes=2, probe_dims={"N": 3})
        for threads in (1, 3):
            folder = tmp_path / f"{index}-{threads}"
            folder.mkdir()
            command = [qemu, "-L", str(_ARM_LIBC), str(caller)]
            assert run_probes(artifact, by_name(artifact)["aarch64"], command, folder, threads) == 2


@pytest.mark.slow(minutes=2)
def test_windows_under_wine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wine = shutil.which("wine64") or shutil.which("wine64", path=_WINE)
    server = shutil.which("wineserver") or shutil.which("wineserver", path=_WINE)
    if wine is None or server is None:
        pytest.skip("needs Wine: apt-get install wine64")
    monkeypatch.setenv("WINEPREFIX", str(tmp_path / "wine"))
    monkeypatch.setenv("WINEDEBUG", "-all")
    monkeypatch.setenv("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe=")
    caller = built_caller(tmp_path, "x86_64-windows-gnu", "caller.exe")
    artifact = vitrify.compile(dense(), targets=("x86-64-v3", "windows-x86_64"), probes=2)
    try:
        assert run_probes(artifact, by_name(artifact)["windows-x86_64"], [wine, str(caller)], tmp_path, 1) == 2
    finally:
        subprocess.run([server, "-k"], timeout=60)  # that of this prefix
