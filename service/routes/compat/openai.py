"""POST /v1/embeddings and GET /v1/models: what clients of OpenAI call, and those of Jina and Infinity."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from model.bundle import Bundle
from service.errors import ApiError, error_responses
from service.schema.compat.common import seconds_since_1970
from service.schema.compat.errors import WITH_MESSAGE
from service.schema.compat.openai import EmbeddingsAnswer, EmbeddingsRequest, ModelList, ModelObject
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.embeddings import answer_embeddings
from service.web.openapi import compatible_errors

router = APIRouter(prefix="/v1", tags=["OpenAI"])
ERRORS = compatible_errors(WITH_MESSAGE)


@router.post(
    "/embeddings",
    summary="Embed texts and images (OpenAI, Jina, Infinity, vLLM)",
    responses={200: {"model": EmbeddingsAnswer}, **ERRORS},
)
async def embeddings(
    request: Annotated[EmbeddingsRequest, json_body(EmbeddingsRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Answer as OpenAI does; the vectors are those of /embed."""
    return await answer_embeddings(request, service, context)


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
    tokens = bundle.mixture and bundle.mixture.tokens
    return ModelObject(id=name, created=seconds_since_1970(bundle.manifest.created), mixture_tokens=tokens)
