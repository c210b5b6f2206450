"""Suites that others wrote: Wycheproof's signatures, JSONTestSuite's documents (tests/vectors)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vitrify.artifact import canonical
from vitrify.artifact.trust.keys import verify
from vitrify.errors import LimitError, ManifestError, UntrustedKeyError

VECTORS = Path(__file__).parents[1] / "vectors"
WYCHEPROOF = json.loads((VECTORS / "wycheproof_ed25519.json").read_text())
DOCUMENTS: list[dict[str, Any]] = json.loads((VECTORS / "json_test_suite.json").read_text())


@pytest.mark.parametrize("group", WYCHEPROOF["testGroups"], ids=lambda group: group["publicKey"]["pk"][:8])
def test_wycheproof(group: dict[str, Any]) -> None:
    """Keys of small order, where Wycheproof leaves the answer open, are no keys here. Keys of mixed order, which only
    their owners can make and sign with, may be."""
    public = bytes.fromhex(group["publicKey"]["pk"])
    for case in group["tests"]:
        signature, message = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
        if "SmallOrderPublicKey" in case["flags"]:
            with pytest.raises(UntrustedKeyError):
                verify(public, signature, message)
            continue
        found = verify(public, signature, message)
        assert found == (case["result"] == "valid") or case["flags"] == ["MixedOrderPublicKey"], case


def test_all_of_wycheproof() -> None:
    assert sum(len(group["tests"]) for group in WYCHEPROOF["testGroups"]) == WYCHEPROOF["numberOfTests"] == 210


def encoded(document: dict[str, Any]) -> bytes:
    """The document's bytes, with a byte that UTF-8 never has where the text lost one."""
    text: str = document.get("input", document.get("unit", "") * document.get("times", 0) + document.get("rest", ""))
    return text.encode().replace("\ufffd".encode(), b"\xff")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["name"])
def test_json(document: dict[str, Any]) -> None:
    """What is no JSON is refused; what is, is read where it is canonical, and then written as it was."""
    given, kind = encoded(document), document["name"][0]
    assert kind in "yni"
    try:
        found = canonical.loads(given, what="it", limit=1 << 20)
    except (ManifestError, LimitError):
        assert kind != "y" or not is_canonical(given)
    else:
        assert kind != "n"
        assert canonical.dumps(found) == given and is_canonical(given)


def is_canonical(given: bytes) -> bool:
    """Whether Python writes the document just so, and there are no floats or lone surrogates in it."""
    floats: list[str] = []
    document = json.loads(given, parse_float=floats.append)
    again = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return not floats and again.encode() == given
    except UnicodeEncodeError:  # a lone surrogate
        return False


def test_all_of_json() -> None:
    counts = {kind: sum(document["name"].startswith(kind) for document in DOCUMENTS) for kind in "yni"}
    assert counts == {"y": 95, "n": 188, "i": 35}
