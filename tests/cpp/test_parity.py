"""The C++ loader and Python's agree on whatever they are given, well-formed or not."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.attacks import forge
from tests.cpp.conftest import Loader
from vitrify.artifact import canonical
from vitrify.artifact.dtypes import BY_NAME
from vitrify.artifact.gate import Platform, examine
from vitrify.artifact.leaks import FOLDERS, scan
from vitrify.errors import ManifestError, VitrifyError
from vitrify.runtime.probes import numbers
from vitrify.runtime.session import Session

Parity = Callable[[str, list[bytes]], list[str]]


@pytest.fixture
def parity(sanitized: Loader, tmp_path: Path) -> Parity:
    """What the C++ loader makes of cases of a kind."""

    def verdicts(kind: str, cases: list[bytes]) -> list[str]:
        file = tmp_path / "cases"
        file.write_bytes(b"".join(struct.pack("<I", len(case)) + case for case in cases))
        done = sanitized("cases", file, "--kind", kind)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.splitlines()

    return verdicts


def verdict(check: Callable[[], object]) -> str:
    try:
        check()
    except VitrifyError as error:
        return type(error).__name__
    return "fine"


SAME = {"LimitError": "ManifestError"}  # which of two faults comes first differs; the exit status does not


def compare(found: list[str], cases: list[bytes], check: Callable[[bytes], object]) -> set[str]:
    """All verdicts that there were; each is the same for both."""
    expected = [verdict(lambda case=case: check(case)) for case in cases]  # type: ignore[misc]
    wrong = [(c[:200], f, e) for c, f, e in zip(cases, found, expected, strict=True)]
    wrong = [(case, f, e) for case, f, e in wrong if SAME.get(f, f) != SAME.get(e, e)]
    assert not wrong, f"{len(wrong)} differ: {wrong[:5]}"
    return {*found, *expected}


# ---- canonical JSON

WORDS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"b":', b"1", b"-1", b"0", b"-0", b"01", b"1.0", b"1e3",
         b"9007199254740991", b"9007199254740992", b"99999999999999999999", b"true", b"false", b"null", b"NaN", b" ",
         b"\n", b"\\n", b"\\u000a", b"\\u000b", b"\\u000B", b"\\/", b"\\ud800", b"\xc3\xa9", b"\xed\xa0\x80", b"\xff",
         b"\xef\xbb\xbf", b"\x7f", b"\x00", "\U0001f600".encode(), b"\xee\x80\x80", b"\xc0\x80", b"-",
         b"Infinity"]  # fmt: skip


def documents(rng: random.Random) -> Iterable[bytes]:
    """Canonical ones, those with something changed, and words thrown together."""
    texts = ["", "a", "ab", "é", "\U0001f600", "\ue000", "\uffff", "\x1f", "\x7f", '"\\/', "\b\f\n\r\t", "€"]

    def value(depth: int) -> Any:
        kind = rng.randrange(8 if depth else 6)
        if kind >= 6:
            size = rng.randrange(4)
            members = [value(depth - 1) for _ in range(size)]
            return members if kind == 6 else {rng.choice(texts) + rng.choice(texts): m for m in members}
        return [None, True, False, rng.randint(-5, 5), rng.choice([-1, 1]) * (2**53 - 1), rng.choice(texts)][kind]

    for _ in range(700):
        encoded = canonical.dumps(value(3))
        yield encoded
        at = rng.randrange(len(encoded) + 1)
        yield encoded[:at] + rng.choice(WORDS) + encoded[at + rng.randrange(2) :]
        yield b"".join(rng.choice(WORDS) for _ in range(rng.randrange(8)))
    for depth in (15, 16, 17, 18, 100_000):
        yield b"[" * depth + b"]" * depth
        yield b'{"a":' * depth + b"1" + b"}" * depth


def test_documents(parity: Parity) -> None:
    cases = list(documents(random.Random(5)))
    seen = compare(parity("json", cases), cases, lambda c: canonical.loads(c, what="it", limit=canonical.MAX_BYTES))
    assert seen == {"fine", "ManifestError", "LimitError"}


def test_floats_in_hexadecimal(parity: Parity) -> None:
    rng = random.Random(6)
    parts = ["0x", "0X", "1", "f", ".", "p", "P", "+", "-", "10", "1024", "inf", "nan", "Infinity", " ", "0", "e", "g"]
    cases = ["".join(rng.choice(parts) for _ in range(rng.randrange(6))) for _ in range(3000)]
    cases += [x.hex() for x in (0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308)] + ["0x1p1024", "0x1p-2000", "0x1.8p1"]

    def check(case: bytes) -> None:
        try:
            float.fromhex(case.decode())
        except (ValueError, OverflowError):
            raise ManifestError("no float") from None

    encoded = [case.encode() for case in cases]
    assert compare(parity("number", encoded), encoded, check) == {"fine", "ManifestError"}


def test_texts_of_objects(parity: Parity) -> None:
    """Attributes of custom ops, which are JSON as Python reads it."""
    rng = random.Random(11)
    words = [w.decode("latin1") for w in WORDS if b"\xed" not in w] + ["\\u00E9", "-Infinity", "1.5e+3", ".5", "1."]
    cases = ["{" + "".join(rng.choice(words) for _ in range(rng.randrange(7))) + "}" for _ in range(4000)]
    cases += ['{"a":1, "a": [NaN,{}]}', ' {"b":"\\ud800"} ', "{}", "[]", "", '{"a":1.0e-5}', '{"a":01}', '{"a":1}x']

    def check(case: bytes) -> None:
        try:
            if isinstance(json.loads(case.decode()), dict):
                return
        except (ValueError, RecursionError):
            pass
        raise ManifestError("no object")

    encoded = [case.encode() for case in cases]
    assert compare(parity("object", encoded), encoded, check) == {"fine", "ManifestError"}


# ---- leaks

PIECES = [b"/", b"\\", b":", b"C", b"d:", b"-I", b"file://", b"https:", b"x", b".", b"~", b" ", b"\0", b"name", b"src",
          b"\xc3\xa9", b"'", b"]", b"-", b"\\\\", b"server", b"$", b"%", b"\n", b"a" * 70]  # fmt: skip
PIECES += [name.encode() for name in FOLDERS[:6]] + [b"var/lib", b"private/tmp"]


def test_leaks(parity: Parity) -> None:
    rng = random.Random(7)
    cases = []
    for _ in range(12000):
        case = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 9)))
        if rng.randrange(3) == 0:
            case = rng.choice([b"", b"q", b"\0"]) + case.decode("latin1").encode("utf-16-le") + rng.choice([b"", b"z"])
        cases.append(case)
    seen = compare(parity("leaks", cases), cases, lambda case: scan(case, name="it"))
    assert seen == {"fine", "LeakError"}


# ---- native code


def test_libraries(parity: Parity) -> None:
    """Every byte of the headers and tables, changed; words of interest in their place."""
    rng = random.Random(8)
    library = forge.base().files[forge.PAYLOAD]
    (table,) = struct.unpack_from("<Q", library, 32)
    (count,) = struct.unpack_from("<H", library, 56)
    segments = [struct.unpack_from("<IIQQQQQQ", library, table + 56 * i) for i in range(count)]
    dynamic = next(s for s in segments if s[0] == 2)
    spots = [*range(64 + 56 * count), *range(dynamic[2], dynamic[2] + dynamic[5])]
    first = next(s for s in segments if s[0] == 1)
    spots += range(64 + 56 * count, min(first[5], 2048))
    cases = [library, library[:63], library[:1000], b"", b"MZ", b"\x7fELF"]
    for at in spots:
        changed = bytearray(library)
        changed[at] ^= 1 << rng.randrange(8)
        cases.append(bytes(changed))
    for _ in range(600):
        changed = bytearray(library)
        at = rng.choice(spots) & ~7
        random_words = rng.getrandbits(64), rng.getrandbits(16)
        word = rng.choice([0, 1, 2**31, 2**32, 2**63, 2**64 - 1, len(library), *random_words])
        struct.pack_into("<Q", changed, at, word)
        cases.append(bytes(changed))
    check = Platform("linux", "x86_64")
    found: list[str] = []
    for at in range(0, len(cases), 500):
        found += parity("gate", cases[at : at + 500])
    seen = compare(found, cases, lambda case: examine(case, check, ("vt_payload",), path="it"))
    assert seen == {"fine", "NativeCodeError", "PlatformError"}


# ---- whole artifacts

VALUES = [None, True, False, 0, 1, -1, 7, 2**53 - 1, "", "x", "*", "f32", "n", "0" * 64, "ab" * 32, [], {}, ["x"],
          {"x": 1}, "payload/x86-64-v3.so", "2026-11-21T00:00:00Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:61Z",
          "details.json", "manifest.json", "a/b/c", "\U0001f600"]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def mutated(document: Any, rng: random.Random) -> Any:
    """The document with one thing changed: a value, a member, or an item."""
    document = copy.deepcopy(document)
    *outer, last = rng.choice(places(document)[1:])
    holder = document
    for key in outer:
        holder = holder[key]
    change = rng.randrange(4)
    if change == 0:
        del holder[last]
    elif change == 1 and isinstance(holder, dict):
        holder[rng.choice(["x", "name", "size", "é"])] = rng.choice(VALUES)
    elif change == 1:
        holder.insert(last, copy.deepcopy(holder[last]))
    else:
        holder[last] = rng.choice(VALUES)
    return document


def changed_parts(rng: random.Random) -> forge.Parts:
    """An artifact with one of its documents changed and signed again."""
    parts = forge.base()
    which = rng.randrange(3)
    if which == 0:
        parts.manifest = mutated(parts.manifest, rng)
    elif which == 1:
        details = mutated(json.loads(parts.files["details.json"]), rng)
        parts.files["details.json"] = forge.dumps(details)
        parts.list_files()
    else:
        parts.statement = mutated(parts.statement, rng)
    return parts


def test_artifacts_with_changed_documents(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(9)
    for name in "ab":  # releases are remembered: each has its own memory
        forge.write_trust(tmp_path / name)
    cases = []
    for index in range(500):
        path = tmp_path / f"{index}.vit"
        try:
            members = changed_parts(rng).members()
        except TypeError:  # keys of several types cannot be sorted
            continue
        forge.write_file(path, members)
        cases.append(str(path).encode())
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(tmp_path / "a")))
    found = parity("artifact", cases)
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(tmp_path / "b")))
    seen = compare(found, cases, lambda case: Session(case.decode()))
    assert {"fine", "ManifestError", "IntegrityError", "SchemaError", "PolicyError"} <= seen


def test_policies_with_changes(parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(10)
    path = tmp_path / "a.vit"
    forge.write_file(path, forge.base().members())
    file = forge.trust_of(path) / "policy.json"
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(file.parent))
    forge.write_trust(path)
    seen = set()
    for _ in range(120):
        encoded = forge.envelope(forge.dumps(mutated(forge.policy(), rng)), kind=forge.POLICY)
        forge.write_private(file, encoded)
        (file.parent / "state.json").unlink(missing_ok=True)
        seen |= compare(parity("artifact", [str(path).encode()]), [encoded], lambda _: Session(str(path)))
    assert {"fine", "ManifestError", "UntrustedKeyError"} <= seen


# ---- probes


def with_probe(change: Callable[[forge.Parts, dict[str, Any]], object], tolerance: float | None, path: Path) -> None:
    """The artifact with a probe that is right, and then changed."""
    parts = forge.base()
    x = forge.FEED["x0"]
    y = np.asarray(expected_of(parts, path.parent))
    where = {"dtype": "f32", "dims": list(y.shape), "name": parts.manifest["outputs"][0]["name"]}
    stated = {"file": None, "tolerance": None, "sha256": hashlib.sha256(y.tobytes()).hexdigest()}
    parts.files["probe/x"] = x.tobytes()
    parts.manifest["files"]["probe/x"] = {"role": "probe"}
    if tolerance is not None:
        stated = {"file": "probe/y", "tolerance": tolerance.hex(), "sha256": None}
        parts.files["probe/y"] = y.tobytes()
        parts.manifest["files"]["probe/y"] = {"role": "probe"}
    given = {"name": "x0", "dtype": "f32", "dims": list(x.shape), "file": "probe/x"}
    probe: dict[str, Any] = {"inputs": [given], "outputs": [{**where, **stated}]}
    parts.manifest["validation"] = [probe]
    change(parts, probe["outputs"][0])
    parts.list_files()
    forge.write_file(path, parts.members())


def expected_of(parts: forge.Parts, folder: Path) -> np.ndarray:
    path = folder / "plain.vit"
    if not path.exists():
        forge.write_file(path, parts.members())
    return np.asarray(Session(str(path)).run(None, forge.FEED)[0])


def moved(by: float, index: int = 0) -> Callable[[forge.Parts, dict[str, Any]], None]:
    """One element of what is expected is another, in parts of the largest."""

    def change(parts: forge.Parts, _: object) -> None:
        y = np.frombuffer(parts.files["probe/y"], np.float32).copy()
        y[index] += np.float32(by) * np.abs(y).max()
        parts.files["probe/y"] = y.tobytes()

    return change


def other_weights(parts: forge.Parts, _: object) -> None:
    data = bytearray(parts.files[forge.WEIGHTS])
    data[100_001] ^= 1
    parts.files[forge.WEIGHTS] = bytes(data)


PROBES: dict[str, tuple[float | None, Callable[[forge.Parts, dict[str, Any]], object], str]] = {
    "right": (0.0, lambda parts, output: None, "fine"),
    "the digest is right": (None, lambda parts, output: None, "fine"),
    "another digest": (None, lambda parts, output: output.update(sha256="ab" * 32), "ProbeError"),
    "within": (1e-3, moved(5e-4), "fine"),
    "beyond": (1e-3, moved(2e-3, 7), "ProbeError"),
    "NaN expected": (1e3, moved(np.nan), "ProbeError"),
    "infinity expected": (1e3, moved(np.inf), "ProbeError"),
    "other weights": (0.0, other_weights, "IntegrityError"),
    "negative tolerance": (-1.0, lambda parts, output: None, "ManifestError"),
    "tolerance spelt otherwise": (0.5, lambda parts, output: output.update(tolerance="0x1p-1"), "ManifestError"),
    "tolerance and digest": (0.5, lambda parts, output: output.update(sha256="ab" * 32), "ManifestError"),
    "dims": (0.5, lambda parts, output: output.update(dims=[1, 1]), "ManifestError"),
}


@pytest.mark.parametrize("name", PROBES)
def test_probes(name: str, parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tolerance, change, error = PROBES[name]
    path = tmp_path / "a.vit"
    forge.write_trust(path)
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(forge.trust_of(path)))
    with_probe(change, tolerance, path)
    cases = [str(path).encode()]
    assert compare(parity("artifact", cases), cases, lambda case: Session(case.decode())) == {error}


@pytest.mark.parametrize("dtype", ["f16", "bf16", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "i4", "u2"])
def test_numbers_of_narrow_types(dtype: str, parity: Parity) -> None:
    """Every code stands for the same number in both."""
    carrier = np.dtype(BY_NAME[dtype].carrier)
    codes = np.arange(1 << 8 * carrier.itemsize).astype(f"u{carrier.itemsize}").view(carrier)
    found = np.array(parity("numbers", [dtype.encode() + b"\0" + codes.tobytes()])[:-1], float)
    with np.errstate(all="ignore"):  # NaN that signal
        expected = numbers(codes, dtype)
    np.testing.assert_array_equal(found, expected)
