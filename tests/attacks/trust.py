"""UntrustedKeyError: keys that nobody pinned, that are revoked or weak, and policies that are not to be believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitrify.errors import (
    ArtifactError,
    LimitError,
    ManifestError,
    PolicyError,
    SignatureError,
    UnsignedError,
    UntrustedKeyError,
)  # fmt: skip

from .forge import (
    OWNER,
    POLICY,
    SECOND,
    STATEMENT,
    STRANGER,
    base,
    dumps,
    envelope,
    pae,
    policy,
    signature,
    trust_of,
    write_file,
    write_trust,
)  # fmt: skip
from .table import attack

_BOTH = [{"public": key.public.hex(), "comment": ""} for key in (OWNER, SECOND)]
_FEW = "too few trusted keys"


def _under(document: bytes, keys: tuple[Any, ...] = (OWNER,)) -> Callable[[Path], None]:
    """The artifact signed by ``keys``, under this policy's envelope."""

    def write(path: Path) -> None:
        parts = base()
        parts.keys = list(keys)
        write_file(path, parts.members())
        write_trust(path, document)

    return write


def _policy(signers: tuple[Any, ...] = (OWNER,), **changes: Any) -> bytes:
    return envelope(dumps(policy(**changes)), signers, kind=POLICY)


def _rule(keys: list[str], threshold: int, product: str = "*") -> dict[str, Any]:
    return {product: {"keys": keys, "threshold": threshold, "min_release": 0}}


def _case(
    name: str, error: type[ArtifactError], message: str, document: bytes, keys: tuple[Any, ...] = (OWNER,)
) -> None:
    attack(f"trust/{name}", error, message, _under(document, keys))


def _weak(public: bytes) -> bytes:
    """A policy that trusts a key of small order."""
    return _policy(keys=[*policy()["keys"], {"public": public.hex(), "comment": ""}])


def _changed(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something done to the trust directory."""

    def write(path: Path) -> None:
        write_file(path, base().members())
        write_trust(path)
        change(trust_of(path))

    return write


def _linked(folder: Path) -> None:
    (folder / "policy.json").rename(folder / "real")
    (folder / "policy.json").symlink_to("real")


_case("unpinned", UntrustedKeyError, _FEW, _policy(), (STRANGER,))
_case("revoked", UntrustedKeyError, _FEW, _policy(
    (SECOND,), keys=_BOTH, root={"keys": [SECOND.id], "threshold": 1}, revoked=[OWNER.id]))  # fmt: skip
_case("root-but-not-of-the-product", UntrustedKeyError, _FEW, _policy(
    keys=_BOTH, products=_rule([SECOND.id], 1)))  # fmt: skip
_case("other-product", UntrustedKeyError, "no rule for the product", _policy(
    products=_rule([OWNER.id], 1, "speech")))  # fmt: skip
_case("own-rule-before-any", UntrustedKeyError, _FEW, _policy(
    keys=_BOTH, products={**_rule([OWNER.id], 1), **_rule([SECOND.id], 1, "attacked")}))  # fmt: skip
_case("threshold", UntrustedKeyError, _FEW, _policy(keys=_BOTH, products=_rule([OWNER.id, SECOND.id], 2)))
_case("threshold-with-a-stranger", UntrustedKeyError, _FEW, _policy(
    keys=_BOTH, products=_rule([OWNER.id, SECOND.id], 2)), (OWNER, STRANGER))  # fmt: skip
_case("threshold-with-a-revoked", UntrustedKeyError, _FEW, _policy(
    keys=_BOTH, products=_rule([OWNER.id, SECOND.id], 2), revoked=[SECOND.id]), (OWNER, SECOND))  # fmt: skip
_case("same-key-twice-in-a-rule", ManifestError, "each once", _policy(products=_rule([OWNER.id, OWNER.id], 2)))
_case("threshold-zero", ManifestError, "threshold is ill-formed", _policy(products=_rule([OWNER.id], 0)))
_case("threshold-unreachable", ManifestError, "threshold is ill-formed", _policy(products=_rule([OWNER.id], 2)))
_case("root-threshold-zero", ManifestError, "threshold is ill-formed", _policy(
    root={"keys": [], "threshold": 0}))  # fmt: skip
_case("rule-of-unknown-key", ManifestError, "ids of keys of the policy", _policy(products=_rule([STRANGER.id], 1)))
_case("policy-unsigned", UnsignedError, "nobody signed", envelope(dumps(policy()), [], kind=POLICY))
_case("policy-by-another", UntrustedKeyError, _FEW, _policy((STRANGER,)))
_case("policy-forged", SignatureError, "a signature is wrong", envelope(
    dumps(policy()), kind=POLICY, signatures=[signature(OWNER.id, STRANGER.sign(pae(POLICY, dumps(policy()))))]))
_case("policy-edited", SignatureError, "a signature is wrong", envelope(
    dumps(policy(development=True)), kind=POLICY,
    signatures=[signature(OWNER.id, OWNER.sign(pae(POLICY, dumps(policy()))))]))  # fmt: skip
_case("policy-as-statement", SignatureError, "another kind of document", envelope(dumps(policy()), kind=STATEMENT))
_case("policy-root-revoked", UntrustedKeyError, _FEW, _policy(revoked=[OWNER.id]))
_case("policy-root-threshold", UntrustedKeyError, _FEW, _policy(
    keys=_BOTH, root={"keys": [OWNER.id, SECOND.id], "threshold": 2}))  # fmt: skip
_case("policy-unknown", ManifestError, "policy is ill-formed", _policy(more=1))
_case("policy-version", ManifestError, "policy.version is ill-formed", _policy(version=True))
_case("policy-development", ManifestError, "policy.development is ill-formed", _policy(development=1))
_case("policy-format", ManifestError, "policy.format is ill-formed", _policy(format="vitrify-trust/2"))
_case("policy-truncated", ManifestError, "not canonical JSON", _policy()[:-1])
_case("policy-empty", ManifestError, "not canonical JSON", b"")
_case("policy-huge", LimitError, "too large", b" " * (1 << 21))
for _name, _public in {
    "zero": bytes(32), "one": b"\1" + bytes(31), "minus-one": (2**255 - 20).to_bytes(32, "little"),
    "one-signed": b"\1" + bytes(30) + b"\x80",
    "order-8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "order-8-other": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    "prime": (2**255 - 19).to_bytes(32, "little"), "prime-plus-one": (2**255 - 18).to_bytes(32, "little"),
}.items():  # fmt: skip
    _case(f"weak-{_name}", UntrustedKeyError, "no key that can be trusted", _weak(_public))
_case("key-short", ManifestError, "ill-formed", _weak(bytes(31)))

_SHUT = _changed(lambda folder: (folder / "policy.json").chmod(0o622))
attack("trust/policy-others-can-write", UntrustedKeyError, "others can change this file", _SHUT)
attack("trust/state-others-can-write", UntrustedKeyError, "others can change this file", _changed(lambda folder: (
    (folder / "state.json").write_bytes(dumps({"releases": {}, "seen": 0})),
    (folder / "state.json").chmod(0o666))))  # fmt: skip
attack("trust/folder-others-can-write", UntrustedKeyError, "others can change", _changed(
    lambda folder: folder.chmod(0o777)))  # fmt: skip
attack("trust/policy-linked", PolicyError, "cannot be opened", _changed(_linked))
attack("trust/policy-folder", PolicyError, "not a regular file", _changed(
    lambda folder: ((folder / "policy.json").unlink(), (folder / "policy.json").mkdir())))  # fmt: skip
attack("trust/no-policy", UntrustedKeyError, _FEW, _changed(lambda folder: (folder / "policy.json").unlink()))
attack("trust/state-damaged", PolicyError, "record of releases is damaged", _changed(
    lambda folder: (folder / "state.json").write_bytes(b"{}")))  # fmt: skip
attack("trust/state-empty", PolicyError, "record of releases is damaged", _changed(
    lambda folder: (folder / "state.json").write_bytes(b"")))  # fmt: skip
