"""The list of parts of an artifact: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/), the same bytes each time."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Any

from vitrify.artifact import canonical
from vitrify.artifact.manifest import Meta
from vitrify.origin.materials import Material, Materials

_SERIAL = uuid.uuid5(uuid.NAMESPACE_URL, "https://vitrify.dev/sbom/v1")
_LICENCE_KEYS = ("license", "licence", "model_license", "model_licence", "spdx_license")
_REFERENCE = re.compile(r"[^A-Za-z0-9._+@/-]+")


def sbom(meta: Meta, materials: Materials, built: Mapping[str, str]) -> bytes:
    """The document of an artifact of the model that ``meta`` describes; ``built`` are SHA-256 of what was made from
    it, by name. It tells no time, and its serial number follows from everything else."""
    name = meta.graph_name or "model"
    parts = [_model(meta, materials), *_external(materials)]
    parts += [_tool(tool) for tool in materials.tools]
    parts += [_custom_op(op) for op in materials.custom_ops]
    whole: dict[str, Any] = {
        "bom-ref": "artifact", "type": "application", "name": name,
        "components": [_file(path, digest) for path, digest in sorted(built.items())],
    }  # fmt: skip
    if meta.version:
        whole["version"] = str(meta.version)
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": whole},
        "components": parts,
        "dependencies": [{"ref": "artifact", "dependsOn": sorted(part["bom-ref"] for part in parts)}],
    }  # fmt: skip
    digest = hashlib.sha256(canonical.dumps(document)).hexdigest()
    return canonical.dumps({**document, "serialNumber": f"urn:uuid:{uuid.uuid5(_SERIAL, digest)}"})


def licence_of(meta: Meta) -> str:
    """What the model's metadata says its licence is; empty where they say nothing."""
    stated = {key.lower().replace("-", "_"): value.strip() for key, value in meta.custom_metadata_map.items()}
    return next((stated[key] for key in _LICENCE_KEYS if stated.get(key)), "")


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _model(meta: Meta, materials: Materials) -> dict[str, Any]:
    part: dict[str, Any] = {
        "bom-ref": "model", "type": "machine-learning-model", "name": meta.graph_name or "model",
        "hashes": _hashes(materials.model.sha256),
    }  # fmt: skip
    if meta.version:
        part["version"] = str(meta.version)
    if licence := licence_of(meta):
        part["licenses"] = [{"license": {"name": licence}}]
    if meta.producer_name:
        part["publisher"] = meta.producer_name
    return part


def _external(materials: Materials) -> list[dict[str, Any]]:
    return [
        {"bom-ref": f"model-data/{number}", "type": "data", "name": name, "hashes": _hashes(digest)}
        for number, (name, digest) in enumerate(materials.model.external)
    ]


def _tool(tool: Material) -> dict[str, Any]:
    part: dict[str, Any] = {
        "bom-ref": _reference(f"{tool.name}@{tool.version}"), "type": "application" if tool.sha256 else "library",
        "name": tool.name, "version": tool.version,
    }  # fmt: skip
    if tool.sha256 is not None:
        part["hashes"] = _hashes(tool.sha256)
    if tool.package:
        part["purl"] = f"pkg:pypi/{tool.package.replace('_', '-')}@{tool.version}"
    return part


def _custom_op(op: Material) -> dict[str, Any]:
    return {
        "bom-ref": _reference(f"custom-op/{op.name}@{op.version}"), "type": "library", "name": op.name,
        "version": op.version, "properties": [{"name": "vitrify:identity", "value": op.sha256 or ""}],
    }  # fmt: skip


def _file(path: str, digest: str) -> dict[str, Any]:
    return {"bom-ref": f"file/{path}", "type": "file", "name": path, "hashes": _hashes(digest)}


def _reference(text: str) -> str:
    return _REFERENCE.sub("-", text)
