"""Sealed artifacts on the command line and from Python: each exit status by an artifact that earns it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vitrify
from vitrify import errors
from vitrify.artifact.manifest import Manifest
from vitrify.cli import main

from .sealed import Files, as_json, remade, save_model


def folder_of(artifact: Path) -> Path:
    folder = artifact.with_suffix("")
    vitrify.pack(artifact, folder)
    return folder


def verify(path: Path, status: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The name of the error, which the API raises, too."""
    found = as_json(capsys, "verify", path, status=status)
    if status == 0:
        assert found["verified"] is True
        vitrify.verify(path)
        return ""
    error = found["error"]
    assert found["verified"] is False and error["code"] == status
    with pytest.raises(getattr(errors, error["error"])) as caught:
        vitrify.verify(path)
    assert caught.value.code == status and caught.value.path is not None
    return str(error["error"])


# ---- what is in order


def test_a_sound_artifact(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "verify", artifact)
    assert found["form"] == "file" and len(found["signers"]) == 1 and found["seal"]["product"] == "vad"
    assert [check["what"] for check in found["checks"]][:3] == ["container", "signature", "policy"]
    assert main(["verify", str(artifact)]) == 0
    shown = capsys.readouterr().out
    assert "verified, signed by" in shown and "this machine" in shown
    assert as_json(capsys, "verify", folder_of(artifact))["form"] == "directory"


def test_what_inspect_says(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = as_json(capsys, "inspect", artifact)["artifact"]
    assert seen["accepted"] and seen["refusal"] is None and seen["digest"] == vitrify.inspect(artifact).digest
    state = artifact.parent / "trust" / "state.json"
    before = state.read_bytes() if state.exists() else None
    other = str(artifact.parent / "elsewhere")
    seen = as_json(capsys, "inspect", artifact, "--trust", other)["artifact"]
    assert not seen["accepted"] and seen["refusal"]["code"] == 12 and not os.path.exists(other)
    assert main(["inspect", str(artifact), "--trust", other]) == 0
    assert "would refuse it: UntrustedKeyError (12)" in capsys.readouterr().out
    assert (state.read_bytes() if state.exists() else None) == before


def test_run_and_load(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = vitrify.inspect(artifact).digest
    (output,) = as_json(capsys, "run", artifact, "-i", "x=[[1,2,3,4]]", "--require-digest", digest)["outputs"]
    assert output["first"] == [2, 4, 6]
    with vitrify.load(artifact, require_digest=digest) as model:
        assert [arg.name for arg in model.inputs] == ["x"] and [arg.name for arg in model.outputs] == ["y"]
        np.testing.assert_array_equal(model.run(x=np.ones((2, 4), np.float32))["y"], np.full((2, 4), 2, np.float32))
        with pytest.raises(errors.InvalidArgumentError):
            model.run(z=1)
    with pytest.raises(errors.InvalidArgumentError, match="is closed"):
        model.run(x=np.ones((1, 4), np.float32))
    with pytest.raises(errors.IntegrityError, match="another artifact"):
        vitrify.load(artifact, require_digest="0" * 64)
    assert main(["run", str(artifact), "--random", "1", "--require-digest", "0" * 64]) == 13
    with pytest.raises(errors.UntrustedKeyError):
        vitrify.load(artifact, trust=str(artifact.parent / "elsewhere"))


def test_options_of_a_session(artifact: Path) -> None:
    other = str(artifact.parent / "elsewhere")
    with pytest.raises(errors.UntrustedKeyError):
        vitrify.InferenceSession(artifact, vitrify.SessionOptions(trust_directory=other))
    with pytest.raises(errors.IntegrityError):
        vitrify.InferenceSession(artifact, vitrify.SessionOptions(require_digest="0" * 64))
    for options in (vitrify.SessionOptions(trust_directory=other), vitrify.SessionOptions(require_digest="0" * 64)):
        with pytest.raises(errors.ArtifactError):
            vitrify.load(artifact, options=options)
    digest = vitrify.inspect(artifact).digest
    vitrify.InferenceSession(artifact, vitrify.SessionOptions(require_digest=digest))
    for bad in ({"require_digest": "abc"}, {"require_digest": ""}, {"require_digest": 1}, {"trust_directory": ""}):
        with pytest.raises(errors.InvalidArgumentError, match=next(iter(bad))):
            vitrify.SessionOptions(**bad)
    with pytest.raises(errors.IntegrityError):
        vitrify.load(artifact, require_digest="")
    assert main(["run", str(artifact), "--random", "1", "--require-digest", ""]) == 1
    model = save_model(artifact.parent / "model.onnx")
    with pytest.raises(errors.InvalidArgumentError, match="for a model"):
        vitrify.InferenceSession(model, vitrify.SessionOptions(trust_directory=other))


# ---- what is not


def test_unsigned(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(artifact)
    (folder / "signature.json").unlink()
    assert verify(folder, 10, capsys) == "UnsignedError"
    assert main(["run", str(folder), "--random", "1"]) == 10
    assert main(["trust", "development", "on"]) == 0
    capsys.readouterr()
    assert main(["verify", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "warning: " in shown.err and "unsigned" in shown.out
    with pytest.warns(vitrify.TrustWarning, match="not signed"), vitrify.load(folder) as model:
        model.run(x=np.ones((1, 4), np.float32))
    assert main(["trust", "development", "off"]) == 0
    assert main(["sign", str(folder)]) == 0
    verify(folder, 0, capsys)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_container_and_documents(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(artifact)
    flip(artifact, 4)
    assert verify(artifact, 11, capsys) == "ContainerError"
    assert verify(artifact.parent / "none.vit", 11, capsys) == "ContainerError"
    signature = (folder / "signature.json").read_bytes()
    (folder / "signature.json").write_bytes(signature + b"\n")
    assert verify(folder, 11, capsys) == "ManifestError"
    (folder / "signature.json").write_bytes(b" " * (1 << 18) + signature)
    assert verify(folder, 11, capsys) == "LimitError"


def test_signatures(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(artifact)
    flip(folder / "manifest.json", 40)
    assert verify(folder, 12, capsys) == "SignatureError"
    key = artifact.parent / "other.pem"
    vitrify.trust.new_key(key)
    assert as_json(capsys, "sign", artifact, "--key", key, "--release", 9)["accepted"] is False
    assert verify(artifact, 12, capsys) == "UntrustedKeyError"
    assert main(["run", str(artifact), "--random", "1"]) == 12


def test_integrity(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(artifact)
    with zipfile.ZipFile(artifact) as archive:
        names = [info.filename for info in archive.infolist() if info.filename.startswith("weights/")]
    flip(folder / names[0], 0)
    assert verify(folder, 13, capsys) == "IntegrityError"
    assert main(["run", str(folder), "--random", "1"]) == 13
    flip(folder / names[0], 0)
    verify(folder, 0, capsys)
    (folder / "more").write_bytes(b"")
    assert verify(folder, 13, capsys) == "IntegrityError"


def test_policy(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sign", str(artifact), "--release", "3", "--expires", "2026-01-01"]) == 0
    assert verify(artifact, 14, capsys) == "PolicyError"
    assert main(["sign", str(artifact), "--expires", "never", "--not-before", "2200-01-01T00:00:00Z"]) == 0
    assert verify(artifact, 14, capsys) == "PolicyError"
    assert main(["sign", str(artifact), "--not-before", "2020-01-01"]) == 0
    verify(artifact, 0, capsys)
    assert main(["trust", "min-release", "vad", "4"]) == 0
    assert verify(artifact, 14, capsys) == "PolicyError"
    assert main(["sign", str(artifact), "--release", "4"]) == 0
    assert main(["trust", "deny", str(artifact)]) == 0
    assert verify(artifact, 14, capsys) == "PolicyError"
    assert main(["trust", "deny", str(artifact), "--undo"]) == 0
    assert main(["trust", "licences", "MIT"]) == 0
    assert verify(artifact, 14, capsys) == "PolicyError"
    assert main(["sign", str(artifact), "--licence", "MIT"]) == 0
    verify(artifact, 0, capsys)


def test_verification_remembers_no_release(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = artifact.with_name("old.vit")
    vitrify.pack(artifact, old)
    assert main(["sign", str(artifact), "--release", "7"]) == 0
    verify(artifact, 0, capsys)
    verify(old, 0, capsys)
    assert main(["run", str(artifact), "--random", "1"]) == 0
    assert verify(old, 14, capsys) == "PolicyError"


def for_another_machine(manifest: Manifest, files: Files) -> Manifest:
    (target,) = manifest.targets
    return manifest._replace(targets=(target._replace(target="aarch64", architecture="aarch64", features=()),))


def with_an_executable_stack(manifest: Manifest, files: Files) -> Manifest:
    name = manifest.targets[0].payload
    image = bytearray(files[name])
    start, size, count = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
    for at in range(start, start + size * count, size):
        if struct.unpack_from("<I", image, at)[0] == 0x6474E551:  # PT_GNU_STACK
            image[at + 4] |= 1
    files[name] = bytes(image)
    return manifest


def for_another_runtime(manifest: Manifest, files: Files) -> Manifest:
    return manifest._replace(abi="ab" * 32)


def with_other_probes(manifest: Manifest, files: Files) -> Manifest:
    for given in manifest.validation[0].inputs:
        files[given.file] = bytes(len(files[given.file]))
    return manifest


def with_a_path_of_the_builder(manifest: Manifest, files: Files) -> Manifest:
    return manifest._replace(meta=manifest.meta._replace(description="from /home/alice/secret/model.onnx"))


@pytest.mark.parametrize(
    ("change", "status", "name"),
    [
        (for_another_machine, 15, "PlatformError"),
        (with_an_executable_stack, 16, "NativeCodeError"),
        (for_another_runtime, 17, "SchemaError"),
        (with_a_path_of_the_builder, 19, "LeakError"),
    ],
)
def test_what_a_trusted_signer_should_not_have_signed(
    artifact: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Manifest, Files], Manifest], status: int,
    name: str,
) -> None:  # fmt: skip
    made = remade(artifact, artifact.with_name("made.vit"), change)
    assert verify(made, status, capsys) == name
    assert main(["verify", str(made)]) == status
    shown = capsys.readouterr().err
    assert f"{name} ({status})" in shown and "path" in shown
    if change is not for_another_runtime:  # which may run elsewhere
        with pytest.raises(getattr(errors, name)):
            vitrify.sign(made)


def test_probes_run_at_load(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = remade(artifact, artifact.with_name("made.vit"), with_other_probes)
    verify(made, 0, capsys)
    assert main(["run", str(made), "--random", "1"]) == 18
    with pytest.raises(errors.ProbeError):
        vitrify.load(made)


def test_wrong_usage_and_internal_errors(
    artifact: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (
        ["verify"], ["verify", artifact, "--format", "xml"], ["sign", artifact, "--release", "x"], ["trust", "frob"],
        ["compile", artifact.parent / "m.onnx", "--product", "vad"], ["trust", "licences"],
    ):  # fmt: skip
        assert main([*map(str, arguments)]) == 2, arguments
    assert main(["sign", str(artifact), "--expires", "tomorrow"]) == 1
    assert "2026-01-31" in capsys.readouterr().err

    def broken(*_: object) -> None:
        raise TypeError("a mistake")

    monkeypatch.setenv("VITRIFY_DEBUG", "0")
    monkeypatch.setattr("vitrify.verify", broken, raising=False)
    assert main(["verify", str(artifact)]) == 70
    shown = capsys.readouterr().err
    assert "internal error: TypeError: a mistake" in shown and shown.count("\n") == 2
    assert main(["verify", str(artifact), "--format", "json"]) == 70
    assert json.loads(capsys.readouterr().err)["code"] == 70


def with_names_that_are_none(manifest: Manifest, files: Files) -> Manifest:
    port = manifest.inputs[0]._replace(name="x\x1b[2J[red]\u202ey")
    (target,) = manifest.targets
    kernel = target.kernels[0]._replace(name="\x1b]0;title\x07[link=file:///]", flops="min(1)")
    return manifest._replace(inputs=(port,), targets=(target._replace(kernels=(kernel,)),), validation=())


def test_names_that_write_to_the_terminal(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def without_probes(manifest: Manifest, files: Files) -> Manifest:
        for name in [name for name in files if name.startswith("probe")]:
            del files[name]
        return with_names_that_are_none(manifest, files)

    made = remade(artifact, artifact.with_name("made.vit"), without_probes)
    assert main(["inspect", str(made)]) == 11  # the amount
    assert main(["run", str(made), "--random", "1"]) == 17  # the payload knows other names
    assert main(["diff", str(artifact), str(made)]) == 1
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err and "\u202e" not in shown.out + shown.err
    assert "\\x1b[2J[red]\\u202ey" in shown.out


# ---- SARIF


def test_sarif(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The members that the schema of SARIF 2.1.0 requires, where they are, and that a result's indices fit."""
    for path, status in ((artifact, 0), (artifact.parent / "no such.vit", 11)):
        assert main(["verify", str(path), "--format", "sarif"]) == status
        log = json.loads(capsys.readouterr().out)
        assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
        (run,) = log["runs"]
        rules = run["tool"]["driver"]["rules"]
        assert run["tool"]["driver"]["name"] == "vitrify" and len({rule["id"] for rule in rules}) == len(rules)
        (invocation,) = run["invocations"]
        assert invocation["executionSuccessful"] is True and invocation["exitCode"] == status
        assert len(run["results"]) == (status != 0)
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"] and result["message"]["text"]
            assert result["level"] in ("none", "note", "warning", "error")
            place = result["locations"][0]["physicalLocation"]["artifactLocation"]
            assert " " not in place["uri"] and run["artifacts"][place["index"]]["location"]["uri"] == place["uri"]


# ---- signatures


def test_signers_add_to_each_other(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [artifact.parent / name for name in ("one.pem", "two.pem")]
    for key in keys:
        assert main(["trust", "key", "--new", str(key)]) == 0
        assert main(["trust", "add", f"{key}.pub", "--product", "vad"]) == 0
    assert main(["trust", "add", f"{keys[0]}.pub", "--product", "vad", "--threshold", "2"]) == 0
    for path in (artifact, folder_of(artifact)):
        first = as_json(capsys, "sign", path, "--key", keys[0], "--release", 2)
        assert first["dropped_signatures"] == 1 and not first["accepted"]
        assert verify(path, 12, capsys) == "UntrustedKeyError"
        second = as_json(capsys, "sign", path, "--key", keys[1])
        assert second["dropped_signatures"] == 0 and second["accepted"] and len(second["signatures"]) == 2
        verify(path, 0, capsys)
        assert as_json(capsys, "sign", path, "--key", keys[1])["signatures"] == second["signatures"]
        assert as_json(capsys, "sign", path, "--key", keys[1], "--release", 3)["dropped_signatures"] == 1
    assert not [name for name in os.listdir(artifact.parent) if name.startswith(".")]


def test_who_signs_at_once(artifact: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from vitrify.artifact.trust.keys import Signer

    keys = [Signer.generate() for _ in range(6)]
    for path in (artifact, folder_of(artifact)):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda key, path=path: vitrify.sign(path, key), keys))  # type: ignore[misc]
        assert {key.id for key in keys} < set(vitrify.inspect(path).signatures)
        vitrify.verify(path)


def test_signing_keeps_the_form(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = artifact.with_name("artifact")
    artifact.rename(other)
    found = vitrify.sign(other, release=2)
    assert other.is_file() and found.form == "file" and found.seal is not None and found.seal.release == 2
    (artifact.parent / "file").write_text("")
    with pytest.raises(errors.ArtifactError, match="cannot be written"):
        vitrify.sign(other, trust=str(artifact.parent / "file" / "trust"))


def test_moments_and_words(artifact: Path) -> None:
    from datetime import UTC, datetime

    when = datetime(2030, 1, 31, tzinfo=UTC)
    for moment in ("2030-01-31", "2030-01-31T00:00:00Z", when, int(when.timestamp())):
        seal = vitrify.sign(artifact, expires=moment).seal
        assert seal is not None and seal.expires == when.timestamp()
    for bad in ("2030-1-31", "2030-01-31T00:00:00", "", datetime(2030, 1, 31), True, -1, 1 << 40, 1.5):
        with pytest.raises(errors.InvalidArgumentError, match="expires"):
            vitrify.sign(artifact, expires=bad)  # type: ignore[arg-type]
    for said in ({"release": -1}, {"release": 1 << 53}, {"product": "a\nb"}, {"product": "*"}, {"licence": "x" * 201}):
        with pytest.raises(errors.InvalidArgumentError):
            vitrify.sign(artifact, **said)  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgumentError, match="not_before"):
        vitrify.sign(artifact, not_before="2031-01-01")


def test_compile_signs(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = artifact.parent / "release.pem"
    vitrify.trust.new_key(key)
    model, out = save_model(artifact.parent / "model.onnx"), artifact.parent / "b.vit"
    said = ["--product", "speech", "--release", 5, "--expires", "2030-01-01", "--not-before", "2026-01-01"]
    made = as_json(capsys, "compile", model, "-o", out, *said, "--licence", "MIT", "--key", key)
    found = vitrify.inspect(out)
    assert found.digest == made["digest"] and isinstance(found.refusal, errors.UntrustedKeyError)
    assert found.seal is not None and found.seal[1:3] == ("speech", 5) and found.seal.licence == "MIT"
    assert len(found.signatures) == 1
    vitrify.trust.add(f"{key}.pub", product="speech")
    assert vitrify.inspect(out).accepted
    saved = vitrify.compile(model).save(artifact.parent / "c.vit", product="speech", key=key)
    assert saved.digest == found.digest and saved.signers == set(found.signatures)


# ---- pack and diff


def test_pack(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, back = artifact.with_suffix(""), artifact.with_name("back.vit")
    as_json(capsys, "pack", artifact, folder)
    assert main(["pack", str(folder), str(back)]) == 0
    assert back.read_bytes() == artifact.read_bytes()
    assert main(["pack", str(folder), str(back)]) == 11
    assert main(["pack", str(folder), str(back), "--replace"]) == 0
    assert main(["diff", str(folder), str(back)]) == 0
    flip(folder / "details.json", 10)
    assert main(["pack", str(folder), str(artifact.with_name("other.vit"))]) == 13
    assert not artifact.with_name("other.vit").exists()


def test_diff(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = artifact.parent
    weights = save_model(folder / "weights.onnx", 3.0)
    shape = save_model(folder / "shape.onnx", columns=5)
    words = save_model(folder / "words.onnx", producer="other")
    plain = save_model(folder / "plain.onnx")
    for model in (weights, shape, words, plain):
        assert main(["compile", str(model), "-o", str(model.with_suffix(".vit"))]) == 0
    base = plain.with_suffix(".vit")

    def areas(other: Path) -> dict[str, list[str]]:
        status = int(other != base)
        found = as_json(capsys, "diff", base, other, status=status)
        assert found["same"] is not bool(status) and main(["diff", str(base), str(other)]) == status
        assert vitrify.diff(base, other).same is found["same"]
        by_area: dict[str, list[str]] = {}
        for one in found["differences"]:
            assert one["before"] != one["after"]
            by_area.setdefault(one["area"], []).append(one["what"])
        return by_area

    assert areas(base) == {}
    assert areas(weights.with_suffix(".vit")).keys() == {"weights", "details"}
    changed = areas(shape.with_suffix(".vit"))
    assert changed["interface"] == ["input x", "output y"] and {"kernels", "weights"} <= changed.keys()
    assert "producer_name" in areas(words.with_suffix(".vit"))["details"]
    signed = folder / "signed.vit"
    vitrify.pack(base, signed)
    vitrify.sign(signed, product="vad", release=2)
    assert areas(signed) == {"seal": ["product", "release"]}
    assert main(["diff", str(base), str(folder / "none.vit")]) == 11


# ---- a server


SERVER = """
import sys
for name in ("onnx", "ml_dtypes", "ziglang", "vitrify.compiler"):
    sys.modules[name] = None
mapped = []
sys.addaudithook(lambda event, args: mapped.append(args) if event == "ctypes.dlopen" else None)
from vitrify.cli import main
for arguments in (["inspect"], ["verify"], ["verify", "--format", "sarif"]):
    assert main([arguments[0], sys.argv[1], *arguments[1:]]) == 0
assert not [args for args in mapped if args[0] is not None], mapped
assert main(["trust", "show"]) == 0
assert main(["run", sys.argv[1], "--random", "1"]) == 0
assert mapped
"""

BARE = """
import sys
for name in ("typer", "rich", "onnx", "ml_dtypes", "ziglang"):
    sys.modules[name] = None
import vitrify
assert vitrify.inspect(sys.argv[1]).accepted
vitrify.verify(sys.argv[1])
vitrify.trust.policy()
with vitrify.load(sys.argv[1]) as model:
    model.run(x=[[1.0, 2.0, 3.0, 4.0]])
from vitrify.cli import main
raise SystemExit(main(["verify", sys.argv[1]]))
"""


@pytest.mark.parametrize(("script", "status"), [(SERVER, 0), (BARE, 1)])
def test_without_the_compiler(artifact: Path, script: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(artifact)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert not status or "pip install 'vitrify[cli]'" in done.stderr
