"""Whom this machine trusts: the policy read and changed.

Each change makes the next version of the policy, signed by this machine's key where that is a root key and by the keys
of ``signers``, and installs it in one step; of several at once all take effect, one after the other. The first change
makes the first policy, which trusts this machine's key.

A ``key`` is the file of a public key (PEM, or 64 hexadecimal digits), or these digits. What all changes take besides is
in :class:`How`. All raise PolicyError for what is refused, UntrustedKeyError where too
few root keys have signed, InvalidArgumentError for what is no key, and ArtifactErrors for files that cannot be read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypedDict, Unpack

from vitrify.artifact.archive import open_regular
from vitrify.artifact.container import read_exactly
from vitrify.artifact.loading import open_artifact
from vitrify.artifact.signing import Moment, check_text, moment_of
from vitrify.artifact.trust import changes
from vitrify.artifact.trust.envelope import MAX_BYTES, open_envelope
from vitrify.artifact.trust.envelope import sign as _sign
from vitrify.artifact.trust.keys import Signer, parse_public
from vitrify.artifact.trust.policy import ANY, KIND, Policy, parse
from vitrify.artifact.trust.store import Store
from vitrify.errors import InvalidArgumentError, PolicyError

Path = str | os.PathLike[str]


class How(TypedDict, total=False):
    """How a policy is changed. ``signers``: private keys, or their files. ``trust``: the directory; without it,
    ``$VITRIFY_TRUST_DIR`` or this user's own. ``force``: even where no artifact of a product could load any more.
    ``draft``: the next policy is written to this file and not installed, for others to :func:`cosign`."""

    signers: Iterable[Signer | Path]
    trust: str | None
    force: bool
    draft: Path | None


def policy(trust: str | None = None) -> Policy:
    """The present policy; version 0 is the trust in this machine's key where none was made yet."""
    return Store(trust).policy()


def machine_key(trust: str | None = None) -> bytes:
    """The public half of this machine's key, 32 bytes; the key is made when there is none."""
    store = Store(trust)
    try:
        return store.machine_key().public
    except OSError as error:
        raise _unwritable(store, error) from None


def new_key(path: Path) -> bytes:
    """Makes a private key in a new file that only its owner can read, and ``path`` with ``.pub`` added for its public
    half, which is returned."""
    key = Signer.generate()
    try:
        key.write(path)
        with open(os.fspath(path) + ".pub", "x", encoding="ascii") as file:
            file.write(key.public.hex() + "\n")
    except OSError as error:
        raise PolicyError(f"cannot be written: {error.strerror}", path=os.fspath(path)) from None
    return key.public


def add(
    key: Path | bytes, *, product: str = ANY, threshold: int | None = None, comment: str = "", **how: Unpack[How]
) -> Policy:  # fmt: skip
    """The key may sign artifacts of ``product``; ``*`` are the products that have no rule of their own. ``threshold``
    is how many keys have to sign it."""
    named = product if product == ANY else check_text("product", product)
    check_text("comment", comment)
    change = changes.trusting(read_public(key), product=named, threshold=threshold, comment=comment)
    return _change(change, how)


def revoke(key: str, *, undo: bool = False, **how: Unpack[How]) -> Policy:
    """The key with this id (or its first 8 or more digits) counts nowhere any more."""
    return _change(changes.revoking(key, undo=undo), how)


def deny(artifact: Path, *, undo: bool = False, **how: Unpack[How]) -> Policy:
    """The artifact, given as a path or as the digest of its manifest, is refused whoever signed it."""
    return _change(changes.denying(digest_of(artifact), undo=undo), how)


def min_release(product: str, release: int, **how: Unpack[How]) -> Policy:
    """Releases of ``product`` before ``release`` are refused."""
    if isinstance(release, bool) or not isinstance(release, int) or not 0 <= release < 1 << 53:
        raise InvalidArgumentError("release", expected="an integer from 0 to 2**53 - 1", actual=repr(release))
    named = product if product == ANY else check_text("product", product)
    return _change(changes.requiring(named, release), how)


def development(allowed: bool, **how: Unpack[How]) -> Policy:
    """Whether unsigned artifacts load, with a warning each time."""
    return _change(changes.developing(bool(allowed)), how)


def licences(allowed: Sequence[str] | None, **how: Unpack[How]) -> Policy:
    """The licences that artifacts may have; None for any."""
    checked = None if allowed is None else [check_text("licence", one) for one in allowed]
    return _change(changes.licensing(checked), how)


def expires(moment: Moment | None, **how: Unpack[How]) -> Policy:
    """The policy accepts nothing after this moment; None: it does not expire."""
    at = None if moment is None else moment_of("expires", moment)
    return _change(changes.expiring(at), how)


def rotate(
    roots: Sequence[Signer | Path] = (), *, threshold: int | None = None, revoke: bool = False, **how: Unpack[How]
) -> Policy:  # fmt: skip
    """The policy's root keys become ``roots``, of which ``threshold`` have to sign from now on. They sign this policy
    as the present ones do, so they are private keys, or public ones where their owners :func:`cosign` a draft. Without
    any, this machine gets a new key in place of its old one: what that has signed still loads, unless ``revoke``."""
    if roots:
        if revoke:
            raise InvalidArgumentError("revoke", expected="no roots: it is about this machine's key", actual="roots")
        given = [_root(one) for one in roots]
        change = changes.rooting([one.public if isinstance(one, Signer) else one for one in given], threshold)
        signing = [one for one in given if isinstance(one, Signer)]
        return _change(change, {**how, "signers": [*signing, *how.get("signers", ())]})
    store = Store(how.get("trust"))
    if how.get("draft") is not None or threshold is not None:
        raise InvalidArgumentError("rotate", expected="roots, for a draft and for a threshold", actual="none")
    try:
        signers = [_signer(one) for one in how.get("signers", ())]
        return store.renew_machine_key(signers, revoke=revoke, force=how.get("force", False))
    except OSError as error:
        raise _unwritable(store, error) from None


def cosign(envelope: bytes, key: Signer | Path) -> bytes:
    """A policy's envelope with one more signature. Raises ManifestError where it is none."""
    signed = open_envelope(envelope, KIND)
    parse(signed.payload)
    return _sign(KIND, signed.payload, [_signer(key)], signed.signatures)


def install(envelope: bytes | Path, *, trust: str | None = None, force: bool = False) -> Policy:
    """Makes a policy that was made elsewhere (its envelope, or the file of one) this machine's: the first one as it
    is, later ones where enough root keys of the present one signed them as well."""
    store = Store(trust)
    encoded = envelope if isinstance(envelope, bytes) else read_file(envelope)
    try:
        return store.install(encoded, force=force)
    except OSError as error:
        raise _unwritable(store, error) from None


def export(trust: str | None = None) -> bytes:
    """The present policy's envelope, for :func:`install` elsewhere. PolicyError where none was made yet."""
    store = Store(trust)
    envelope = store.envelope()
    if envelope is None:
        raise PolicyError("there is no policy yet", path=store.directory, hint="vitrify trust add KEY makes the first")
    return envelope


def read_public(key: Path | bytes) -> bytes:
    """The 32 bytes of a public key, or those in its file or digits."""
    if isinstance(key, bytes):
        return parse_public(key.hex())
    text = os.fspath(key)
    digits = len(text) == 64 and not set(text.lower()) - set("0123456789abcdef")
    if digits and not os.path.exists(text):
        return parse_public(text)
    return parse_public(read_file(text).decode("ascii", "replace"))


def read_file(path: Path) -> bytes:
    """A small file. ContainerError where it is none."""
    name = os.fspath(path)
    fd = open_regular(name)
    try:
        return read_exactly(fd, 0, min(os.fstat(fd).st_size, MAX_BYTES + 1), name)
    finally:
        os.close(fd)


def digest_of(artifact: Path) -> str:
    """The digest of an artifact's manifest, given as it is or as the artifact's path."""
    text = os.fspath(artifact)
    if len(text) == 64 and not set(text) - set("0123456789abcdef") and not os.path.exists(text):
        return text
    opened = open_artifact(text)
    opened.source.close()
    return opened.digest


def _change(change: changes.Change, how: How) -> Policy:
    store, draft = Store(how.get("trust")), how.get("draft")
    signers = [_signer(one) for one in how.get("signers", ())]
    try:
        changed, envelope = store.change(change, signers, install=draft is None, force=how.get("force", False))
    except OSError as error:
        raise _unwritable(store, error) from None
    if draft is not None:
        try:
            with open(draft, "xb") as file:
                file.write(envelope)
        except OSError as error:
            raise PolicyError(f"cannot be written: {error.strerror}", path=os.fspath(draft)) from None
    return changed


def _root(key: Signer | Path) -> Signer | bytes:
    if isinstance(key, Signer):
        return key
    if os.path.exists(key) and b"PRIVATE KEY" in read_file(key):
        return Signer.read(key)
    return read_public(key)


def _signer(key: Signer | Path) -> Signer:
    return key if isinstance(key, Signer) else Signer.read(key)


def _unwritable(store: Store, error: OSError) -> PolicyError:
    return PolicyError(
        f"cannot be written: {error.strerror}", path=store.directory, hint="check permissions, or VITRIFY_TRUST_DIR"
    )
