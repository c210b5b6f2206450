"""``vitrify trust``: the policy shown, and the result of each change of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vitrify.artifact.schema import moment
from vitrify.artifact.trust.envelope import open_envelope
from vitrify.artifact.trust.keys import key_id
from vitrify.artifact.trust.policy import ANY, KIND, parse
from vitrify.artifact.trust.store import Store
from vitrify.cli.console import console, escape, table

if TYPE_CHECKING:
    from vitrify.artifact.trust.policy import Policy

_SHOWN = 16  # digits of an id


def names_of(policy: Policy, ids: Iterable[str]) -> list[str]:
    """Keys by the first digits of their ids, and whose they are."""
    comments = {key_id(key.public): key.comment for key in policy.keys}
    return [f"{one[:_SHOWN]}…" + (f" ({comments[one]})" if comments.get(one) else "") for one in ids]


def as_dict(policy: Policy) -> dict[str, Any]:
    """A policy as JSON has it, its keys with their ids."""
    return {
        "version": policy.version, "issued": moment(policy.issued),
        "expires": None if policy.expires is None else moment(policy.expires), "development": policy.development,
        "root": policy.root._asdict(),
        "keys": [
            {
                "id": key_id(key.public), "public": key.public.hex(), "comment": key.comment,
                "signs": _signs(policy, key_id(key.public)), "root": key_id(key.public) in policy.root.keys,
                "revoked": key_id(key.public) in policy.revoked,
            }
            for key in policy.keys
        ],
        "products": {name: rule._asdict() for name, rule in policy.products.items()},
        "revoked": list(policy.revoked), "denied": list(policy.denied),
        "licences": None if policy.licences is None else list(policy.licences),
    }  # fmt: skip


def show(trust: str | None, as_json: bool) -> None:
    """The policy, and the releases that were seen."""
    store = Store(trust)
    policy, state = store.policy(), store.state()
    if as_json:
        seen = {"seen": moment(state.seen) if state.seen else None, "releases": dict(state.releases)}
        json.dump({"directory": store.directory, **as_dict(policy), **seen}, sys.stdout, indent=1)
        print()
        return
    out = console()
    made = f"policy {policy.version}, of {moment(policy.issued)}" if policy.version else "no policy yet"
    out.print(f"[bold]{made}[/]  [dim]{escape(store.directory)}[/]", soft_wrap=True)
    if not policy.version:
        out.print("[dim]only what was built on this machine loads; the first change makes the first policy[/]")
    _print_policy(out, policy, state.releases)


def _print_policy(out: Console, policy: Policy, releases: Mapping[str, int] | None = None) -> None:
    """``releases`` are the highest that were seen, where that matters."""
    _print_facts(out, policy)
    _print_products(out, policy, releases)
    if policy.development:
        out.print("[bold yellow]![/] for development: unsigned artifacts load")


def _print_facts(out: Console, policy: Policy) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    if policy.root.keys:
        roots = ", ".join(names_of(policy, policy.root.keys))
        facts.add_row("  changed by", escape(f"{policy.root.threshold} of: {roots}"))
    facts.add_row("  expires", "never" if policy.expires is None else moment(policy.expires))
    if policy.licences is not None:
        facts.add_row("  licences", escape(", ".join(one or "none stated" for one in policy.licences) or "none at all"))
    for what, values in (("revoked keys", names_of(policy, policy.revoked)), ("denied", policy.denied)):
        for value in values:
            facts.add_row(f"  {what}", escape(value))
    out.print(facts)


def _print_products(out: Console, policy: Policy, releases: Mapping[str, int] | None) -> None:
    if not policy.keys:
        return
    seen = () if releases is None else ("seen",)
    shown = table("product", "signed by", right=("needs", "release from", *seen))
    for name, rule in policy.products.items():
        keys = names_of(policy, (key for key in rule.keys if key not in policy.revoked)) or ["nobody"]
        title = "[dim]any other[/]" if name == ANY else escape(name) or '[dim]"" (none stated)[/]'
        figures = [f"{rule.threshold} of {len(rule.keys)}", str(rule.min_release)]
        if releases is not None:
            figures.append(str(releases.get(name, "–")))
        shown.add_row(title, escape("\n".join(keys)), *figures)
    out.print(shown)


def _signs(policy: Policy, key: str) -> list[str]:
    return [name for name, rule in policy.products.items() if key in rule.keys]


def list_keys(trust: str | None, as_json: bool) -> None:
    """All keys of the policy."""
    policy = Store(trust).policy()
    if as_json:
        json.dump(as_dict(policy)["keys"], sys.stdout, indent=1)
        print()
        return
    out = console()
    if not policy.keys:
        out.print("no key is trusted: nothing was built here, and there is no policy")
        return
    shown = table("key", "whose", "may sign", "")
    for key in policy.keys:
        own = key_id(key.public)
        signs = [f"{'any other' if name == ANY else name or 'no product'}" for name in _signs(policy, own)]
        what = [escape(", ".join(signs))] if signs else []
        what += ["policies"] if own in policy.root.keys else []
        state = "[red]revoked[/]" if own in policy.revoked else ""
        shown.add_row(f"{own[:_SHOWN]}…", escape(key.comment), ", ".join(what) or "[dim]nothing[/]", state)
    out.print(shown)


def changed(policy: Policy, before: Policy, draft: Path | None, as_json: bool) -> None:
    """What a change came to."""
    if as_json:
        kept = None if draft is None else str(draft)
        json.dump({"changed": policy != before, "draft": kept, **as_dict(policy)}, sys.stdout, indent=1)
        print()
        return
    out = console()
    if policy == before:
        out.print(f"[dim]=[/] policy {policy.version} says so already")
    elif draft is not None:
        out.print(f"[bold green]✓[/] policy {policy.version} as a draft: {escape(str(draft))}", soft_wrap=True)
        out.print("[dim]sign it: vitrify trust cosign DRAFT --key KEY; then: vitrify trust install DRAFT[/]")
    else:
        out.print(f"[bold green]✓[/] policy {policy.version}")
        _print_policy(out, policy)


def print_key(public: bytes, where: str, as_json: bool) -> None:
    """A public key: the digits alone on standard output, so that they can be sent to a file."""
    if as_json:
        json.dump({"id": key_id(public), "public": public.hex()}, sys.stdout)
        print()
        return
    Console(stderr=True, highlight=False).print(f"[dim]{escape(where)}, id {key_id(public)}[/]", soft_wrap=True)
    print(public.hex())


def print_written(path: Path, envelope: bytes, as_json: bool) -> None:
    """Where a policy was written, and whose signatures it has."""
    signed = open_envelope(envelope, KIND)
    policy = parse(signed.payload)
    if as_json:
        json.dump({"path": str(path), "version": policy.version, "signatures": sorted(signed.signatures)}, sys.stdout)
        print()
        return
    names = ", ".join(names_of(policy, sorted(signed.signatures)))
    console().print(f"[bold green]✓[/] {escape(str(path))}: policy {policy.version}, signed by {escape(names)}")
