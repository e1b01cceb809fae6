"""POST /api/embed and /api/embeddings, GET /api/tags and /api/version: what clients of Ollama call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from model import __version__
from service.errors import error_responses
from service.schema.compat.errors import FLAT
from service.schema.compat.ollama import (
    OllamaDetails,
    OllamaEmbedAnswer,
    OllamaEmbedRequest,
    OllamaPromptAnswer,
    OllamaPromptRequest,
    OllamaTag,
    OllamaTagsAnswer,
    OllamaVersionAnswer,
)
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import check_dimensions, json_response, reduce_dimensions, serialize_rows

router = APIRouter(prefix="/api", tags=["Ollama"])
ERRORS = compatible_errors(FLAT)
TAG = ":latest"  # what Ollama's clients add to a name without one


@router.post("/embed", summary="Embed texts (Ollama)", responses={200: {"model": OllamaEmbedAnswer}, **ERRORS})
async def embed(
    request: Annotated[OllamaEmbedRequest, json_body(OllamaEmbedRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer as Ollama does; what begins with data:image/ is a picture."""
    with service.model(_name(request.model)) as pipeline:
        check_dimensions(request.dimensions, pipeline.bundle, context)
        embedded = await pipeline.embed(request.input, context, truncate=request.cut, keep_errors=False)
    with context.timing.stage("serialize"):
        vectors = reduce_dimensions(embedded.vectors, request.dimensions, normalize=True)
        rows = await serialize_rows(lambda: vectors, vectors.size, service.shared)
        answer = {"model": request.model or pipeline.bundle.id, "embeddings": rows, "load_duration": 0}
        tokens, elapsed_ns = embedded.usage["tokens"], int(context.timing.total_s() * 1e9)
        return json_response({**answer, "total_duration": elapsed_ns, "prompt_eval_count": tokens})


@router.post(
    "/embeddings", summary="Embed a text (Ollama, older)", responses={200: {"model": OllamaPromptAnswer}, **ERRORS}
)
async def embeddings(
    request: Annotated[OllamaPromptRequest, json_body(OllamaPromptRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer one vector."""
    with service.model(_name(request.model)) as pipeline:
        embedded = await pipeline.embed([request.prompt], context, truncate=request.cut, keep_errors=False)
    return json_response({"embedding": embedded.vectors[0]})


@router.get("/tags", summary="The models served (Ollama)", responses=error_responses(shape=FLAT))
async def tags(service: ServiceDep) -> OllamaTagsAnswer:
    """Name the models."""
    bundles = [pipeline.bundle for pipeline in service.models.serving]
    return OllamaTagsAnswer(
        models=[
            OllamaTag(
                name=bundle.id,
                model=bundle.id,
                modified_at=bundle.manifest.created,
                digest=bundle.digest,
                details=OllamaDetails(quantization_level=bundle.precision),
            )
            for bundle in bundles
        ]
    )


@router.get("/version", summary="The version (Ollama)", responses=error_responses(shape=FLAT))
async def version() -> OllamaVersionAnswer:
    """That of this service."""
    return OllamaVersionAnswer(version=__version__)


def _name(model: str | None) -> str | None:
    return None if model is None else model.removesuffix(TAG)
