"""PolicyError: artifacts that were signed by the right keys, and are still not to be used here and now."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vitrify.errors import PolicyError

from .forge import OWNER, POLICY, base, dumps, envelope, policy, write_file, write_trust
from .table import attack


def _case(
    name: str, message: str, said: dict[str, Any] | None = None, rules: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The signature says ``said``, the policy has ``rules``, and the machine remembers ``state``."""

    def write(path: Path) -> None:
        parts = base()
        parts.statement["predicate"] |= said or {}
        write_file(path, parts.members())
        write_trust(path, envelope(dumps(policy(**(rules or {}))), kind=POLICY), state)

    attack(f"policies/{name}", PolicyError, message, write)


def _denied(path: Path) -> None:
    files = base().members()
    write_file(path, files)
    digest = hashlib.sha256(files["manifest.json"]).hexdigest()
    write_trust(path, envelope(dumps(policy(denied=[digest])), kind=POLICY))


def _least(release: int) -> dict[str, Any]:
    return {"products": {"*": {"keys": [OWNER.id], "threshold": 1, "min_release": release}}}


_FAR = 4102444800  # 2100-01-01
_case("expired", "the artifact has expired", {"expires": "2026-11-20T00:00:00Z"})
_case("expired-long-ago", "the artifact has expired", {"expires": "1970-01-01T00:00:00Z"})
_case("not-yet-valid", "not valid yet", {"not_before": "2100-01-01T00:00:00Z"})
_case("expires-before-it-begins", "not valid yet", {
    "not_before": "2100-01-01T00:00:00Z", "expires": "1980-01-01T00:00:00Z"})  # fmt: skip
_case("policy-expired", "the policy has expired", None, {"expires": "2026-11-20T00:00:00Z"})
_case("clock-before-the-policy", "the clock was set back", None, {"issued": "2100-01-01T00:00:00Z"})
_case("clock-before-what-was-seen", "the clock was set back", None, None, {"releases": {}, "seen": _FAR})
_case("release-before-what-was-seen", "released later than this", None, None, {"releases": {"attacked": 4}, "seen": 0})
_case("release-before-the-least", "released later than this", None, _least(4))
_case("release-zero", "released later than this", {"release": 0}, None, {"releases": {"attacked": 1}, "seen": 0})
_case("licence", "the licence is not allowed", {"licence": "AGPL-3.0-only"}, {"licences": ["MIT", "Apache-2.0"]})
_case("no-licence", "the licence is not allowed", None, {"licences": ["MIT"]})
_case("no-licence-allowed", "the licence is not allowed", {"licence": "MIT"}, {"licences": []})
attack("policies/denied", PolicyError, "the policy denies this artifact", _denied)
