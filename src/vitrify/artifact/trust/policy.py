"""The policy: which keys may sign which products, from which release on, and what is refused in any case.

A policy is itself a signed document. The first one is trusted because its owner put it where policies lie; each
later one is signed by enough root keys of the one before and by enough of its own, so that who holds a retired key
cannot bring it back.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import PolicyError, UntrustedKeyError
from .. import canonical
from .. import schema as s
from ..record import Record
from .envelope import Seal, Signed, open_envelope, require, sign
from .keys import Signer, check_public, key_id

FORMAT = "vitrify-trust/1"
KIND = "application/vnd.vitrify.trust+json"
ANY = "*"  # the rule of products that have none of their own


class Role(Record):
    """Ids of keys, and how many of them have to sign."""

    keys: tuple[str, ...]
    threshold: int


class Rule(Record):
    """What a product's artifacts need; ``min_release`` is the least that is accepted."""

    keys: tuple[str, ...]
    threshold: int
    min_release: int


class Key(Record):
    """A public key of 32 bytes, and whose it is."""

    public: bytes
    comment: str


class Policy(Record):
    """``development`` lets unsigned artifacts load, and says so each time. ``denied`` are digests of manifests,
    ``revoked`` ids of keys. ``licences`` are those that may be used, None for any. Moments are seconds since 1970."""

    version: int
    issued: int
    expires: int | None
    development: bool
    root: Role
    keys: tuple[Key, ...]
    products: dict[str, Rule]
    revoked: tuple[str, ...]
    denied: tuple[str, ...]
    licences: tuple[str, ...] | None

    def known(self, ids: Iterable[str]) -> dict[str, bytes]:
        """The public keys with these ids that are listed and not revoked."""
        found = {key_id(key.public): key.public for key in self.keys}
        return {key: found[key] for key in ids if key in found and key not in self.revoked}

    def accept(self, seal: Seal, signed: Signed, kind: str, now: int, highest_release: int) -> frozenset[str]:
        """The ids of the trusted keys that signed the artifact.

        ``now`` is a moment that is certainly past; ``highest_release`` the highest of the product seen here.
        Raises SignatureError, UntrustedKeyError, or PolicyError for what else the policy forbids.
        """
        rule = self.products.get(seal.product, self.products.get(ANY))
        if rule is None:
            raise UntrustedKeyError(
                f"the policy has no rule for the product {seal.product!r}", expected=f"one of {sorted(self.products)}",
                hint="vitrify trust add KEY --product PRODUCT",
            )  # fmt: skip
        signers = require(signed, kind, self.known(rule.keys), rule.threshold)
        if self.expires is not None and now > self.expires:
            raise PolicyError("the policy has expired", expected=f"a moment up to {s.moment(self.expires)}")
        if seal.manifest in self.denied:
            raise PolicyError("the policy denies this artifact", actual=seal.manifest)
        if now < seal.not_before:
            raise PolicyError(
                "the artifact is not valid yet", expected=f"a moment from {s.moment(seal.not_before)} on",
                actual=s.moment(now), hint="set the clock right",
            )  # fmt: skip
        if seal.expires is not None and now > seal.expires:
            raise PolicyError(
                "the artifact has expired", expected=f"a moment up to {s.moment(seal.expires)}", actual=s.moment(now)
            )
        least = max(rule.min_release, highest_release)
        if seal.release < least:
            raise PolicyError(
                f"{seal.product} has been released later than this", expected=f"release {least} or later",
                actual=seal.release, hint="fetch the current release",
            )  # fmt: skip
        if self.licences is not None and seal.licence not in self.licences:
            raise PolicyError("the licence is not allowed", expected=list(self.licences), actual=seal.licence or "none")
        return signers


def _public(value: object, where: str) -> bytes:
    return check_public(bytes.fromhex(s.digest(value, where)))


_policy = s.record(
    lambda _, *members: Policy(*members),
    format=s.constant(FORMAT), version=s.count, issued=s.instant, expires=s.optional(s.instant),
    development=s.truth, root=s.record(Role, keys=s.several(s.digest), threshold=s.count),
    keys=s.several(s.record(Key, public=_public, comment=s.text)),
    products=s.mapping(
        s.text, s.record(Rule, keys=s.several(s.digest), threshold=s.count, min_release=s.count)
    ),
    revoked=s.several(s.digest), denied=s.several(s.digest), licences=s.optional(s.several(s.text)),
)  # fmt: skip


def parse(payload: bytes) -> Policy:
    """The policy in a document. ManifestError where it is none, or where no keys could meet a threshold;
    UntrustedKeyError for a key that is weak."""
    policy = _policy(canonical.loads(payload, what="the policy", limit=canonical.MAX_BYTES), "policy")
    known = {key_id(key.public) for key in policy.keys}
    roles = {"root": policy.root, **{f"products.{n}": Role(r.keys, r.threshold) for n, r in policy.products.items()}}
    for name, (keys, threshold) in roles.items():
        if len(set(keys)) != len(keys) or not known.issuperset(keys):
            raise s.refusal(f"policy.{name}.keys", "ids of keys of the policy, each once", keys)
        if not 1 <= threshold <= len(keys):
            raise s.refusal(f"policy.{name}.threshold", f"1 to {len(keys)}, the number of keys", threshold)
    return policy


def encode(policy: Policy) -> bytes:
    """The document of a policy."""
    members = policy._asdict()
    members["issued"] = s.moment(policy.issued)
    members["expires"] = None if policy.expires is None else s.moment(policy.expires)
    members["root"] = {"keys": list(policy.root.keys), "threshold": policy.root.threshold}
    members["keys"] = [{"comment": key.comment, "public": key.public.hex()} for key in policy.keys]
    members["products"] = {
        name: {"keys": list(rule.keys), "min_release": rule.min_release, "threshold": rule.threshold}
        for name, rule in policy.products.items()
    }
    for name in ("revoked", "denied", "licences"):
        members[name] = None if members[name] is None else list(members[name])
    encoded = canonical.dumps({"format": FORMAT, **members})
    parse(encoded)
    return encoded


def seal_policy(policy: Policy, signers: Iterable[Signer]) -> bytes:
    """The policy's envelope, signed."""
    return sign(KIND, encode(policy), signers)


def open_policy(encoded: bytes) -> Policy:
    """The policy of an envelope that enough of its own root keys signed. UntrustedKeyError where they did not."""
    signed = open_envelope(encoded, KIND)
    policy = parse(signed.payload)
    require(signed, KIND, policy.known(policy.root.keys), policy.root.threshold)
    return policy


def succeed(old: Policy, encoded: bytes) -> Policy:
    """The policy that follows ``old``. Raises UntrustedKeyError where the root keys of ``old`` did not sign it as
    well, or where it is older."""
    new = open_policy(encoded)
    require(open_envelope(encoded, KIND), KIND, old.known(old.root.keys), old.root.threshold)
    if new.version != old.version + 1 or new.issued < old.issued:
        raise UntrustedKeyError(
            "this policy does not follow the present one", expected=f"version {old.version + 1}, issued later",
            actual=f"version {new.version}", hint="apply the policies between in turn",
        )  # fmt: skip
    return new
