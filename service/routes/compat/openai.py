"""POST /v1/embeddings and GET /v1/models: what clients of OpenAI call, and those of Jina and Infinity."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Response

from model.bundle import Bundle
from service.errors import ApiError, error_responses
from service.schema.compat.common import token_usage
from service.schema.compat.errors import WITH_MESSAGE
from service.schema.compat.openai import EmbeddingsAnswer, EmbeddingsRequest, ModelList, ModelObject
from service.schema.requests import EncodingFormat
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import ENCODERS, Matrix, check_dimensions, json_response, reduce_dimensions, serialize_rows

router = APIRouter(prefix="/v1", tags=["OpenAI"])
ERRORS = compatible_errors(WITH_MESSAGE)


@router.post(
    "/embeddings",
    summary="Embed texts and images (OpenAI, Jina, Infinity)",
    responses={200: {"model": EmbeddingsAnswer}, **ERRORS},
)
async def embeddings(
    request: Annotated[EmbeddingsRequest, json_body(EmbeddingsRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Answer as OpenAI does; the vectors are those of /embed."""
    dimensions = request.dimensions or None
    with service.model(request.model) as pipeline:
        check_dimensions(dimensions, pipeline.bundle)
        embedded = await pipeline.embed(request.input, context, truncate=request.cut, keep_errors=False)
    with context.timing.stage("serialize"):
        vectors = reduce_dimensions(embedded.vectors, dimensions, request.normalized is not False)
        formats = request.formats()
        rows = await serialize_rows(lambda: _encode(vectors, formats), vectors.size * len(formats), service.shared)
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        usage = token_usage(embedded.usage)
        return json_response({"object": "list", "data": data, "model": pipeline.bundle.id, "usage": usage})


def _encode(vectors: Matrix, formats: list[EncodingFormat]) -> Iterable[Any]:
    """Row by row: in the one format, or as an object with each of several."""
    if len(formats) == 1:
        return ENCODERS[formats[0]](vectors)
    columns = [ENCODERS[name](vectors) for name in formats]
    return (dict(zip(formats, row, strict=True)) for row in zip(*columns, strict=True))


@router.get("/models", summary="The models served (OpenAI)", responses=error_responses())
async def models(service: ServiceDep) -> ModelList:
    """Name the models, and their aliases; /models says more of each."""
    served = service.models.serving
    names = [(name, each) for each in served for name in (each.bundle.id, *service.models.aliases_of(each))]
    return ModelList(data=[_model(name, pipeline.bundle) for name, pipeline in names])


@router.get(
    "/models/{id:path}",
    summary="One model (OpenAI)",
    responses=error_responses("invalid_request", "model_not_found", "unavailable"),
)
async def model(id: str, service: ServiceDep) -> ModelObject:
    """Say that it is served; names with a slash, as elsewhere, get the same refusal as any unknown one."""
    try:
        return _model(id, service.models.find(id).bundle)
    except ApiError as error:
        raise error.at("id") from None


def _model(name: str, bundle: Bundle) -> ModelObject:
    return ModelObject(id=name, created=_seconds(bundle.manifest.created))


def _seconds(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except (ValueError, OverflowError, OSError):  # a bundle's maker may write anything here
        return 0
