"""How an artifact was made: a SLSA provenance (https://slsa.dev/spec/v1.0/provenance) in an in-toto statement.

It names neither time nor place: the same model, options and versions give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from vitrify.artifact import canonical
from vitrify.artifact import schema as s
from vitrify.artifact.trust.envelope import MAX_BYTES
from vitrify.options import CompileOptions
from vitrify.origin.materials import Material, Materials, Model
from vitrify.origin.recorded_options import record_options

BUILDER = "https://vitrify.dev/builders/compile"
BUILD_TYPE = "https://vitrify.dev/build-types/compile/v1"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"
MAX_PROVENANCE = 4 * MAX_BYTES


class Provenance(NamedTuple):
    """``options`` are as :func:`recorded_options` reads them; ``targets`` those that were compiled; ``built`` are
    SHA-256 of what was made, by name."""

    materials: Materials
    options: dict[str, Any]
    targets: tuple[str, ...]
    built: Mapping[str, str]


def provenance(
    options: CompileOptions, targets: tuple[str, ...], materials: Materials, built: Mapping[str, str]
) -> bytes:
    """The document."""
    model = materials.model
    return canonical.dumps(
        {
            "_type": _STATEMENT,
            "subject": [_described(name, digest) for name, digest in sorted(built.items())],
            "predicateType": _PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "model": {
                            "digest": {"sha256": model.sha256},
                            "external": [_described(name, digest) for name, digest in model.external],
                        },
                        "options": record_options(options),
                        "customOps": [_tool(op) for op in materials.custom_ops],
                    },
                    "internalParameters": {"targets": list(targets)},
                    "resolvedDependencies": [_tool(tool) for tool in materials.tools],
                },
                "runDetails": {"builder": {"id": BUILDER, "version": {"vitrify": materials.tools[0].version}}},
            },
        }
    )


def _described(name: str, digest: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": digest}}


def _tool(tool: Material) -> dict[str, Any]:
    described: dict[str, Any] = {"name": tool.name, "annotations": {"version": tool.version}}
    if tool.package:
        described["uri"] = f"pkg:pypi/{tool.package.replace('_', '-')}@{tool.version}"
    if tool.sha256 is not None:
        described["digest"] = {"sha256": tool.sha256}
    return described


def _object(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise s.refusal(where, "an object", value)
    return value


_digest = s.record(lambda digest: digest, sha256=s.digest)
_file = s.record(lambda name, digest: (name, digest), name=s.text, digest=_digest)


def _material(value: Any, where: str) -> Material:
    parse = s.record(
        lambda name, noted, digest, uri: Material(name, noted, digest, uri.removeprefix("pkg:pypi/").partition("@")[0]),
        name=s.text, annotations=s.record(lambda version: version, version=s.text), digest=s.optional(_digest),
        uri=s.text,
    )  # fmt: skip
    material: Material = parse({"digest": None, "uri": "", **_object(value, where)}, where)
    return material._replace(package=material.name if material.package else "")


_parse = s.record(
    lambda subject, predicate, *_: (subject, predicate),
    subject=s.several(_file),
    predicate=s.record(
        lambda definition, _: definition,
        buildDefinition=s.record(
            lambda _, outer, inner, tools: (outer, inner, tools),
            buildType=s.constant(BUILD_TYPE),
            externalParameters=s.record(
                lambda model, options, ops: (model, options, ops),
                model=s.record(Model, digest=_digest, external=s.several(_file)),
                options=_object, customOps=s.several(_material),
            ),
            internalParameters=s.record(lambda targets: targets, targets=s.several(s.text)),
            resolvedDependencies=s.several(_material),
        ),
        runDetails=_object,
    ),
    _type=s.constant(_STATEMENT), predicateType=s.constant(_PREDICATE),
)  # fmt: skip


def parse_provenance(encoded: bytes) -> Provenance:
    """What a document says. ManifestError where :func:`provenance` of this version did not write it."""
    subject, ((model, options, ops), targets, tools) = _parse(
        canonical.loads(encoded, what="the provenance", limit=MAX_PROVENANCE), "provenance"
    )
    return Provenance(Materials(model, tools, ops), options, targets, dict(subject))
