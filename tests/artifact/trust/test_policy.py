"""Policies: who may sign what, how one policy follows another, and what a machine remembers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from vitrify.artifact.trust import envelope, policy
from vitrify.artifact.trust.envelope import STATEMENT_TYPE, Seal
from vitrify.artifact.trust.keys import Signer
from vitrify.artifact.trust.policy import Key, Policy, Role, Rule
from vitrify.artifact.trust.store import BUILT, State, Store, TrustWarning, first_policy, own_policy
from vitrify.errors import ManifestError, PolicyError, SignatureError, UntrustedKeyError

ONE, TWO, THREE = (Signer.generate() for _ in range(3))
DAY = 86400
NOW = BUILT + 100 * DAY
SEAL = Seal("ab" * 32, "speech", 3, BUILT, NOW + DAY, "Apache-2.0", None, None)


def made(*signers: Signer, threshold: int = 1, **members: Any) -> Policy:
    ids = tuple(signer.id for signer in signers)
    return Policy(
        **{
            "version": 1, "issued": BUILT, "expires": None, "development": False, "root": Role(ids, threshold),
            "keys": tuple(Key(s.public, "") for s in signers), "products": {"*": Rule(ids, threshold, 0)},
            "revoked": (), "denied": (), "licences": None, **members,
        }
    )  # fmt: skip


def accept(chosen: Policy, seal: Seal = SEAL, *signers: Signer, now: int = NOW, highest: int = 0) -> frozenset[str]:
    encoded = envelope.sign(STATEMENT_TYPE, envelope.statement(seal), signers or [ONE])
    signed = envelope.open_envelope(encoded, STATEMENT_TYPE)
    return chosen.accept(envelope.parse_statement(signed.payload), signed, STATEMENT_TYPE, now, highest)


def test_round_trip() -> None:
    whole = made(
        ONE, TWO, threshold=2, expires=NOW, products={"speech": Rule((TWO.id,), 1, 7)}, revoked=("ab" * 32,),
        denied=("cd" * 32,), licences=("MIT",), development=True,
    )  # fmt: skip
    assert policy.parse(policy.encode(whole)) == whole
    assert policy.open_policy(policy.seal_policy(whole, [ONE, TWO])) == whole


def test_what_is_accepted() -> None:
    assert accept(made(ONE)) == {ONE.id}
    assert accept(made(ONE, TWO, threshold=2), SEAL, ONE, TWO, THREE) == {ONE.id, TWO.id}
    assert accept(made(ONE, licences=("Apache-2.0",))) == {ONE.id}


@pytest.mark.parametrize(
    "chosen",
    [
        made(TWO), made(ONE, TWO, threshold=2), made(ONE, revoked=(ONE.id,)), made(ONE, products={}),
        made(ONE, TWO, products={"*": Rule((ONE.id,), 1, 0), "speech": Rule((TWO.id,), 1, 0)}),
    ],
)  # fmt: skip
def test_keys_that_do_not_count(chosen: Policy) -> None:
    with pytest.raises(UntrustedKeyError):
        accept(chosen)


@pytest.mark.parametrize(
    "chosen, seal, now, highest",
    [
        (made(ONE), SEAL, NOW + 2 * DAY, 0), (made(ONE), SEAL._replace(not_before=NOW + 1), NOW, 0),
        (made(ONE), SEAL, NOW, 4), (made(ONE, products={"*": Rule((ONE.id,), 1, 4)}), SEAL, NOW, 0),
        (made(ONE, licences=("MIT",)), SEAL, NOW, 0), (made(ONE, licences=()), SEAL._replace(licence=""), NOW, 0),
        (made(ONE, denied=(SEAL.manifest,)), SEAL, NOW, 0), (made(ONE, expires=NOW - 1), SEAL, NOW, 0),
    ],
)  # fmt: skip
def test_what_a_policy_forbids(chosen: Policy, seal: Seal, now: int, highest: int) -> None:
    with pytest.raises(PolicyError):
        accept(chosen, seal, now=now, highest=highest)


def test_a_policy_follows_another() -> None:
    old = made(ONE)
    new = made(TWO, version=2)
    assert policy.succeed(old, policy.seal_policy(new, [ONE, TWO])) == new
    for signers, candidate in (
        ([TWO], new),  # its own key alone
        ([ONE], new),  # the old key alone
        ([TWO, THREE], new),
        ([ONE, TWO], new._replace(version=1)),
        ([ONE, TWO], new._replace(version=3)),
        ([ONE, TWO], new._replace(issued=BUILT - 1)),
    ):
        with pytest.raises(UntrustedKeyError):
            policy.succeed(old, policy.seal_policy(candidate, signers))


def test_revoked_root_keys_do_not_sign() -> None:
    both = made(ONE, TWO, threshold=1, revoked=(ONE.id,))
    with pytest.raises(UntrustedKeyError):
        policy.open_policy(policy.seal_policy(both, [ONE]))


@pytest.mark.parametrize(
    "members",
    [
        {"root": Role((), 0)}, {"root": Role((ONE.id,), 2)}, {"root": Role((ONE.id, ONE.id), 1)},
        {"root": Role((TWO.id,), 1)}, {"products": {"*": Rule((ONE.id,), 0, 0)}}, {"version": -1},
    ],
)  # fmt: skip
def test_policies_that_nothing_can_meet(members: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        policy.encode(made(ONE, **members))


def test_weak_keys_are_not_listed() -> None:
    weak = (1).to_bytes(32, "little")
    with pytest.raises(UntrustedKeyError):
        policy.encode(made(ONE)._replace(keys=(Key(ONE.public, ""), Key(weak, ""))))


# ---- what a machine remembers


def test_without_a_policy_the_machine_trusts_itself(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "trust"))
    key = store.machine_key()
    assert store.machine_key().id == key.id
    assert (tmp_path / "trust").stat().st_mode & 0o777 == 0o700
    assert accept(store.policy(), SEAL, key) == {key.id}
    with pytest.raises(UntrustedKeyError):
        accept(store.policy(), SEAL, ONE)


def test_policies_are_installed_in_turn(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.install(first_policy(ONE))
    assert store.policy().version == 1
    with pytest.raises(UntrustedKeyError):
        store.install(first_policy(TWO))
    following = made(ONE, TWO, version=2, issued=store.policy().issued, root=Role((TWO.id,), 1))
    store.install(policy.seal_policy(following, [ONE, TWO]))
    with pytest.raises(UntrustedKeyError):  # the one before, again
        store.install(first_policy(ONE))
    assert store.policy() == following


def test_a_policy_that_others_can_write(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.install(first_policy(ONE))
    os.chmod(store.path("policy.json"), 0o666)
    with pytest.raises(UntrustedKeyError, match="others"):
        store.policy()


def test_a_changed_policy(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    encoded = first_policy(ONE)
    store.install(encoded)
    path = Path(store.path("policy.json"))
    for at in range(0, len(encoded), 7):
        other = bytearray(encoded)
        other[at] ^= 1
        path.write_bytes(other)
        with pytest.raises((ManifestError, SignatureError)):
            store.policy()


def test_releases_and_time_only_grow(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    chosen = own_policy(ONE.public)
    state = store.state()
    now = store.now(chosen, state)
    store.note(state, now, "speech", 5)
    store.note(store.state(), now, "speech", 3)
    store.note(store.state(), now, "vision", 1)
    assert store.state().releases == {"speech": 5, "vision": 1}
    with pytest.raises(PolicyError, match="set back"):
        store.now(chosen, State(now + DAY, {}))
    with pytest.raises(PolicyError, match="set back"):
        store.now(chosen._replace(issued=now + DAY), state)


def test_a_damaged_record(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Path(store.path("state.json")).write_bytes(b"{}")
    with pytest.raises(PolicyError, match="damaged"):
        store.state()


def test_a_record_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(str(tmp_path / "file" / "below"))
    with pytest.warns(TrustWarning, match="will not be noticed"):
        store.note(State(0, {}), BUILT, "speech", 1)
