"""POST /vectorize and GET /meta: what Weaviate asks of a container for its module multi2vec-clip."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from service.errors import error_responses
from service.schema.compat.errors import FLAT
from service.schema.compat.weaviate import VectorizeAnswer, VectorizeRequest, VectorizerMetaAnswer
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import json_response, serialize_rows

router = APIRouter(tags=["Weaviate"])


@router.post(
    "/vectorize",
    summary="Embed texts and images (Weaviate)",
    responses={200: {"model": VectorizeAnswer}, **compatible_errors(FLAT)},
)
async def vectorize(
    request: Annotated[VectorizeRequest, json_body(VectorizeRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Embed with the first model served; set CLIP_INFERENCE_API of Weaviate to this server's address."""
    items = [*request.texts, *request.images]
    with service.model(None) as pipeline:
        vectors = (await pipeline.embed(items, context, truncate=None, keep_errors=False)).vectors
    with context.timing.stage("serialize"):
        rows = await serialize_rows(lambda: vectors, vectors.size, service.shared)
        split = len(request.texts)
        return json_response({"textVectors": rows[:split], "imageVectors": rows[split:]})


@router.get("/meta", summary="The model (Weaviate)", responses=error_responses("unavailable", shape=FLAT))
async def meta(service: ServiceDep) -> VectorizerMetaAnswer:
    """Name the model that /vectorize embeds with."""
    bundle = service.models.find(None).bundle
    return VectorizerMetaAnswer(model={"id": bundle.id, "digest": bundle.digest, "dimensions": bundle.dimensions})
