"""Bodies of /invocations: which of /embed and /classify is meant, and whether the answer is for Vertex AI."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from service.request_context import RequestContext
from service.schema.compat.sagemaker import VertexRequest
from service.schema.items import Item
from service.schema.requests import ClassifyOptions, ClassifyRequest, EmbedOptions, EmbedRequest
from service.settings import Settings
from service.web.body import BodyReader, parse_object, validate, within

_EMBED, _CLASSIFY = BodyReader(EmbedRequest, EmbedOptions), BodyReader(ClassifyRequest, ClassifyOptions)


@dataclass(frozen=True, slots=True)
class Invocation:
    """What is asked for, and whether as `instances` with `parameters`."""

    request: EmbedRequest | ClassifyRequest
    of_instances: bool = False


class InvocationReader(BodyReader[Any]):
    """Reads what /embed and /classify read, told apart by the labels, and what Vertex AI sends."""

    def _from_json(self, body: bytes, settings: Settings) -> Invocation:
        value = parse_object(body)
        if "instances" in value:
            return Invocation(_from_instances(validate(VertexRequest, value, settings), settings), of_instances=True)
        return Invocation(validate(_reader(value).model, value, settings))

    def with_inputs(
        self, items: list[Item], fields: Mapping[str, list[str]], context: RequestContext, settings: Settings
    ) -> Invocation:
        """As the reader of /embed or of /classify, by the fields there are."""
        return Invocation(_reader(fields).with_inputs(items, fields, context, settings))


def _from_instances(sent: VertexRequest, settings: Settings) -> EmbedRequest | ClassifyRequest:
    parameters = sent.parameters or {}
    reader = _reader(parameters)
    assert reader.options is not None
    with within("parameters"):
        options = validate(reader.options, parameters, settings)
    request: EmbedRequest | ClassifyRequest = reader.complete(sent.instances, options)
    return request


def _reader(fields: Container[str]) -> BodyReader[Any]:
    return _CLASSIFY if "labels" in fields or "label_set" in fields else _EMBED
