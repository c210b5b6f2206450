"""What a model says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitrify.frontends.onnx.load import ModelSource, read_model


@dataclass(frozen=True)
class Metadata:
    producer_name: str = ""
    graph_name: str = ""
    domain: str = ""
    description: str = ""
    graph_description: str = ""
    version: int = 0
    custom_metadata_map: Mapping[str, str] = field(default_factory=dict)
    overridable_initializers: tuple[str, ...] = ()  # inputs with a default; imported as constants


def model_metadata(model: ModelSource) -> Metadata:
    proto = read_model(model)[0]
    initialized = {t.name for t in proto.graph.initializer}
    return Metadata(
        producer_name=proto.producer_name,
        graph_name=proto.graph.name,
        domain=proto.domain,
        description=proto.doc_string,
        graph_description=proto.graph.doc_string,
        version=proto.model_version,
        custom_metadata_map={p.key: p.value for p in proto.metadata_props},
        overridable_initializers=tuple(
            v.name for v in proto.graph.input if v.name in initialized and proto.ir_version >= 4
        ),
    )
