"""Changes of a policy: each is a function from a policy to the next one, without its version, files or signatures.

What would leave nobody who may sign is refused: such a policy could neither accept an artifact nor be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...errors import InvalidArgumentError, PolicyError
from .keys import check_public, key_id
from .policy import ANY, Key, Policy, Role, Rule

Change = Callable[[Policy], Policy]
_SHORTEST_PREFIX = 8  # digits of an id that stand for a key


def apply(change: Change, policy: Policy, *, now: int, force: bool) -> Policy:
    """The policy after ``policy``; the same one where nothing changes. PolicyError where it would trust nobody,
    unless ``force``."""
    changed = change(policy)
    if changed == policy:
        return policy
    check_reachable(changed, before=policy, force=force)
    return changed._replace(version=policy.version + 1, issued=max(now, policy.issued))


def check_reachable(policy: Policy, *, before: Policy | None = None, force: bool = False) -> None:
    """Raises PolicyError where fewer keys are left than have to sign: for policies always, for products unless
    ``force``, or unless it was so ``before``."""
    if len(policy.known(policy.root.keys)) < policy.root.threshold:
        raise PolicyError(
            "nobody could change the policy any more", expected=f"at least {policy.root.threshold} of its root keys",
            actual=f"{len(policy.known(policy.root.keys))} that count", hint="first rotate to other root keys",
        )  # fmt: skip
    if force:
        return
    for name, rule in policy.products.items():
        old = before.products.get(name) if before else None
        was_unreachable = before is not None and old is not None and _left(before, old) < old.threshold
        if _left(policy, rule) < rule.threshold and not was_unreachable:
            raise PolicyError(
                f"no artifact of {_called(name)} could load any more", expected=f"{rule.threshold} of its keys",
                actual=f"{_left(policy, rule)} that count", hint="trust another key first, or say --force",
            )  # fmt: skip
    if not policy.products and (before is None or before.products):
        raise PolicyError("no artifact could load any more: no key may sign", hint="vitrify trust add KEY, or --force")


def _left(policy: Policy, rule: Rule) -> int:
    return len(policy.known(rule.keys))


def _called(product: str) -> str:
    return "any product" if product == ANY else f"the product {product!r}"


def find_key(policy: Policy, text: str) -> str:
    """The id of a key of the policy: in full, or its first digits (8 or more). InvalidArgumentError for none or
    several."""
    ids = [key_id(key.public) for key in policy.keys]
    found = [one for one in ids if one.startswith(text.lower())] if len(text) >= _SHORTEST_PREFIX else []
    if len(found) != 1:
        raise InvalidArgumentError(
            "key", expected=f"an id among {', '.join(one[:16] for one in ids) or 'none'}, or 8 or more of its digits",
            actual=repr(text), hint="vitrify trust list shows the keys",
        )  # fmt: skip
    return found[0]


def _listed(policy: Policy, public: bytes, comment: str) -> tuple[Key, ...]:
    """The keys with this one, its comment a new one where that is given."""
    check_public(public)
    if key_id(public) in policy.revoked:
        raise PolicyError("this key was revoked", actual=key_id(public), hint="vitrify trust revoke KEY --undo, first")
    fresh = Key(public, comment)
    keys = [(fresh if comment and key.public == public else key) for key in policy.keys]
    return tuple(keys) if any(key.public == public for key in keys) else (*keys, fresh)


def _threshold(given: int | None, present: int, keys: Sequence[str]) -> int:
    threshold = present if given is None else given
    if not 1 <= threshold <= len(keys):
        raise InvalidArgumentError(
            "threshold", expected=f"1 to {len(keys)}, the number of keys", actual=threshold, hint="add keys first"
        )
    return threshold


def trusting(public: bytes, *, product: str, threshold: int | None, comment: str) -> Change:
    """The key may sign ``product`` (``*``: any that has no rule of its own), of which ``threshold`` keys have to."""

    def change(policy: Policy) -> Policy:
        default = policy.products.get(ANY)
        rule = policy.products.get(product, Rule((), 1, default.min_release if default else 0))
        ids = tuple(dict.fromkeys((*rule.keys, key_id(public))))
        rule = Rule(ids, _threshold(threshold, rule.threshold, ids), rule.min_release)
        return policy._replace(
            keys=_listed(policy, public, comment), products={**policy.products, product: rule}
        )  # fmt: skip

    return change


def revoking(text: str, *, undo: bool = False) -> Change:
    """The key counts nowhere any more, whatever lists it. A key that is not listed is named by its whole id."""

    def change(policy: Policy) -> Policy:
        whole = len(text) == 64 and not set(text) - set("0123456789abcdef")
        return policy._replace(revoked=_with(policy.revoked, text if whole else find_key(policy, text), undo))

    return change


def denying(digest: str, *, undo: bool = False) -> Change:
    """The artifact whose manifest has this digest is refused."""
    return lambda policy: policy._replace(denied=_with(policy.denied, digest, undo))


def _with(present: tuple[str, ...], one: str, undo: bool) -> tuple[str, ...]:
    rest = tuple(other for other in present if other != one)
    return rest if undo else (*rest, one) if one not in present else present


def requiring(product: str, release: int) -> Change:
    """Releases before this one are refused. The product gets a rule of its own, with the keys of the general one."""

    def change(policy: Policy) -> Policy:
        rule = policy.products.get(product, policy.products.get(ANY))
        if rule is None:
            raise PolicyError(f"nobody may sign {_called(product)} yet", hint="vitrify trust add KEY --product PRODUCT")
        return policy._replace(products={**policy.products, product: rule._replace(min_release=release)})

    return change


def developing(allowed: bool) -> Change:
    """Whether unsigned artifacts load."""
    return lambda policy: policy._replace(development=allowed)


def licensing(allowed: Iterable[str] | None) -> Change:
    """The licences that may be used; None for any."""
    licences = None if allowed is None else tuple(dict.fromkeys(allowed))
    return lambda policy: policy._replace(licences=licences)


def expiring(moment: int | None) -> Change:
    """The policy accepts nothing after this moment (seconds since 1970); None: it never expires."""
    return lambda policy: policy._replace(expires=moment)


def rooting(publics: Sequence[bytes], threshold: int | None) -> Change:
    """These keys, and no others, sign policies from now on."""

    def change(policy: Policy) -> Policy:
        for public in publics:
            policy = policy._replace(keys=_listed(policy, public, ""))
        ids = tuple(dict.fromkeys(map(key_id, publics)))
        return policy._replace(root=Role(ids, _threshold(threshold, min(policy.root.threshold, len(ids)), ids)))

    return change


def renewing(old: str, public: bytes, comment: str, *, revoke: bool) -> Change:
    """The key takes the place of the one with the id ``old`` in everything; ``revoke``: that counts no more, else
    what it signed still does."""

    def change(policy: Policy) -> Policy:
        new = key_id(public)

        def renewed(ids: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(new if one == old else one for one in ids)

        def beside(ids: tuple[str, ...]) -> tuple[str, ...]:
            return renewed(ids) if revoke or old not in ids else (*ids, new)

        root = policy.root._replace(keys=renewed(policy.root.keys))
        products = {name: rule._replace(keys=beside(rule.keys)) for name, rule in policy.products.items()}
        revoked = _with(policy.revoked, old, False) if revoke else policy.revoked
        return policy._replace(
            keys=_listed(policy, public, comment), root=root, products=products, revoked=revoked
        )  # fmt: skip

    return change
