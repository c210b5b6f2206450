"""The policy on the command line and from Python: changes, who signs them, what is refused, and several at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vitrify
from vitrify import errors
from vitrify.artifact.trust.keys import Signer, key_id
from vitrify.artifact.trust.policy import Policy, Role
from vitrify.cli import main

from .sealed import as_json

trust = vitrify.trust


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of trust, and a place for keys beside it."""
    monkeypatch.setenv("VITRIFY_TRUST_DIR", str(tmp_path / "trust"))
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def keys(place: Path, *names: str) -> list[Path]:
    for name in names:
        trust.new_key(place / name)
    return [place / name for name in names]


def ids(paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(Signer.read(path).id for path in paths)


def refused(*arguments: object, status: int = 14) -> None:
    before = trust.policy()
    assert main([*map(str, arguments)]) == status
    assert trust.policy() == before


# ---- the first policy


def test_the_first_change_makes_the_first_policy(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust.policy().version == 0 and not os.path.exists(place / "trust")
    assert main(["trust", "show"]) == 0 and main(["trust", "list"]) == 0
    assert "no policy yet" in capsys.readouterr().out and not os.path.exists(place / "trust")
    refused("trust", "export", place / "policy.json")
    (key,) = keys(place, "a.pem")
    found = as_json(capsys, "trust", "add", f"{key}.pub", "--product", "vad", "--comment", "release")
    assert found["changed"] and found["version"] == 1
    policy = trust.policy()
    assert policy.root.keys == (key_id(trust.machine_key()),)
    assert policy.products["vad"].keys == ids([key]) and policy.products["*"].keys == policy.root.keys
    assert as_json(capsys, "trust", "add", f"{key}.pub", "--product", "vad")["changed"] is False
    assert trust.policy().version == 1
    (listed,) = [one for one in as_json(capsys, "trust", "list") if one["comment"] == "release"]
    assert listed["signs"] == ["vad"] and not listed["root"]
    assert listed["public"] == Path(f"{key}.pub").read_text().strip()
    shown = as_json(capsys, "trust", "show")
    assert shown["directory"] == str(place / "trust") and shown["products"]["vad"]["threshold"] == 1
    assert (place / "trust" / "policy.json").stat().st_mode & 0o777 == 0o600


def test_keys_in_all_their_forms(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    signer = Signer.generate()
    (place / "pem").write_bytes(Ed25519PublicKey.from_public_bytes(signer.public).public_bytes(*form))
    (place / "hex").write_text(signer.public.hex().upper() + "\n")
    for key in (place / "pem", place / "hex", signer.public.hex(), signer.public):
        trust.add(key)
    assert trust.policy().version == 1
    (place / "ec").write_bytes(ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*form))
    (place / "empty").write_bytes(b"")
    (private,) = keys(place, "private")
    for bad in (place / "ec", private):
        refused("trust", "add", bad, status=1)
        assert "InvalidArgumentError" in capsys.readouterr().err
    refused("trust", "add", place / "none", status=11)
    refused("trust", "add", place / "empty", status=12)
    refused("trust", "add", (1).to_bytes(32, "little").hex(), status=12)
    assert main(["trust", "key"]) == 0
    assert capsys.readouterr().out.strip() == trust.machine_key().hex()
    assert main(["trust", "key", "--new", str(private)]) == 14


# ---- changes


def test_thresholds(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = keys(place, "a", "b")
    trust.machine_key()
    refused("trust", "add", f"{one}.pub", "--product", "vad", "--threshold", "2", status=1)
    trust.add(f"{one}.pub", product="vad")
    trust.add(f"{two}.pub", product="vad", threshold=2)
    assert trust.policy().products["vad"] == (ids([one, two]), 2, 0)
    refused("trust", "revoke", ids([one])[0][:12])
    assert "no artifact of the product 'vad'" in capsys.readouterr().err
    assert main(["trust", "revoke", ids([one])[0][:12], "--force"]) == 0
    trust.development(True)  # a rule that was out of reach before stands in no way
    refused("trust", "add", f"{one}.pub")
    assert "was revoked" in capsys.readouterr().err
    assert main(["trust", "revoke", ids([one])[0], "--undo"]) == 0
    assert trust.policy().revoked == ()


def test_nobody_locks_himself_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = key_id(trust.machine_key())
    refused("trust", "revoke", own)
    refused("trust", "revoke", own, "--force")
    assert "nobody could change the policy" in capsys.readouterr().err
    refused("trust", "revoke", "0123", status=1)
    refused("trust", "revoke", "f" * 20, status=1)
    assert main(["trust", "revoke", "f" * 64]) == 0  # a key that may come yet
    (key,) = keys(place, "a")
    trust.add(f"{key}.pub")
    trust.rotate([key])
    assert main(["trust", "revoke", own, "--key", str(key)]) == 0
    assert trust.policy().known(trust.policy().products["*"].keys).keys() == set(ids([key]))


def test_releases_denials_licences_and_expiry(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust.min_release("vad", 3)
    assert trust.policy().products["vad"] == (trust.policy().products["*"].keys, 1, 3)
    (key,) = keys(place, "a")
    trust.add(f"{key}.pub", product="vad")
    assert trust.policy().products["vad"].min_release == 3
    assert main(["trust", "deny", "ab" * 32]) == 0 and trust.policy().denied == ("ab" * 32,)
    assert main(["trust", "deny", "ab" * 32, "--undo"]) == 0 and trust.policy().denied == ()
    refused("trust", "deny", place / "none.vit", status=11)
    trust.licences(["MIT", "Apache-2.0", "MIT"])
    assert trust.policy().licences == ("MIT", "Apache-2.0")
    assert main(["trust", "licences", "--any"]) == 0 and trust.policy().licences is None
    trust.expires("2030-01-01")
    assert main(["trust", "show"]) == 0
    assert "2030-01-01T00:00:00Z" in capsys.readouterr().out
    assert main(["trust", "expires", "never"]) == 0 and trust.policy().expires is None
    refused("trust", "expires", "soon", status=1)
    with pytest.raises(errors.InvalidArgumentError):
        trust.min_release("vad", -1)
    assert trust.policy().version == 8


# ---- who signs


def test_a_new_key_of_the_machine(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = key_id(trust.machine_key())
    assert main(["trust", "rotate"]) == 0
    new = key_id(trust.machine_key())
    policy = trust.policy()
    assert new != old and policy.root.keys == (new,) and policy.products["*"].keys == (old, new) and not policy.revoked
    assert main(["trust", "rotate", "--revoke"]) == 0
    newest = key_id(trust.machine_key())
    assert trust.policy().revoked == (new,) and trust.policy().root.keys == (newest,)
    trust.development(True)
    assert trust.policy().version == 3
    assert sorted(os.listdir(place / "trust")) == ["lock", "machine.pem", "machine.pub", "policy.json"]
    refused("trust", "rotate", "--threshold", "2", status=1)


def test_root_keys_elsewhere(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = keys(place, "one", "two", "three")
    trust.rotate([one, two], threshold=2)
    assert trust.policy().root == Role(ids([one, two]), 2)
    refused("trust", "development", "on", status=12)
    assert "--key" in capsys.readouterr().err
    refused("trust", "development", "on", "--key", one, status=12)
    refused("trust", "development", "on", "--key", one, "--key", three, status=12)
    assert main(["trust", "development", "on", "--key", str(one), "--key", str(two)]) == 0
    draft = place / "draft.json"
    assert main(["trust", "development", "off", "--key", str(one), "--draft", str(draft)]) == 0
    assert trust.policy().development
    refused("trust", "install", draft, status=12)
    signed = as_json(capsys, "trust", "cosign", draft, "--key", two)
    assert signed["signatures"] == sorted(ids([one, two])) and signed["version"] == trust.policy().version + 1
    assert main(["trust", "install", str(draft)]) == 0
    assert not trust.policy().development
    refused("trust", "install", draft, status=12)  # it is the present one, not the next
    later = place / "later.json"
    assert main(["trust", "rotate", f"{three}.pub", "--key", str(one), "--key", str(two), "--draft", str(later)]) == 0
    refused("trust", "install", later, status=12)  # its own root key has not signed
    assert main(["trust", "cosign", str(later), "--key", str(three)]) == 0
    assert main(["trust", "install", str(later)]) == 0
    assert trust.policy().root == Role(ids([three]), 1)
    assert main(["trust", "rotate", f"{one}.pub", "--key", str(three), "--draft", str(later)]) == 14  # a file is there


def test_policies_from_elsewhere(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (key,) = keys(place, "a")
    trust.add(f"{key}.pub", product="vad")
    exported = place / "policy.json"
    assert main(["trust", "export", str(exported)]) == 0
    assert main(["trust", "export", str(exported)]) == 14
    server = str(place / "server")
    assert main(["trust", "install", str(exported), "--trust", server]) == 0
    assert trust.policy(server) == trust.policy() and not os.path.exists(place / "server" / "machine.pem")
    assert main(["trust", "development", "on", "--trust", server]) == 12  # the server holds no root key
    trust.min_release("vad", 2)
    trust.min_release("vad", 3)
    exported.write_bytes(trust.export())
    assert main(["trust", "install", str(exported), "--trust", server]) == 12  # one is missing between
    exported.write_bytes(b"{}")
    assert main(["trust", "install", str(exported), "--trust", server]) == 11
    assert trust.policy(server).version == 1


def test_a_policy_that_trusts_nobody_is_not_installed(place: Path) -> None:
    from vitrify.artifact.trust.policy import Rule, seal_policy
    from vitrify.artifact.trust.store import own_policy

    signer, other = Signer.generate(), Signer.generate()
    policy: Policy = own_policy(signer.public)._replace(version=1)
    policy = policy._replace(
        keys=(*policy.keys, policy.keys[0]._replace(public=other.public)), products={"*": Rule((other.id,), 1, 0)},
        revoked=(other.id,),
    )  # fmt: skip
    encoded = seal_policy(policy, [signer])
    with pytest.raises(errors.PolicyError, match="any product"):
        trust.install(encoded)
    assert trust.policy().version == 0
    assert trust.install(encoded, force=True) == policy


# ---- several at once, and what lies in the way


def test_changes_at_once(place: Path) -> None:
    trust.development(False)
    digests = [f"{n:02x}" * 32 for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(trust.deny, digests))
    assert set(trust.policy().denied) == set(digests) and trust.policy().version == 13
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(trust.rotate) for _ in range(4)]
    assert not [one for one in done if one.exception()]
    trust.development(True)  # the machine's key is still the root's
    assert sorted(os.listdir(place / "trust")) == ["lock", "machine.pem", "machine.pub", "policy.json"]


def test_a_directory_that_cannot_be_made(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "file").write_text("")
    where = str(place / "file" / "trust")
    for arguments in (["development", "on"], ["key"], ["rotate"]):
        assert main(["trust", *arguments, "--trust", where]) == 14, arguments
        assert "cannot be" in capsys.readouterr().err
    with pytest.raises(errors.PolicyError):
        trust.machine_key(where)


def test_errors_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trust", "revoke", key_id(trust.machine_key()), "--format", "json"]) == 14
    error = json.loads(capsys.readouterr().err)
    assert error["error"] == "PolicyError" and error["code"] == 14 and error["hint"] and error["expected"]
