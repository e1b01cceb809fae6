"""POST /predict: what immich asks its machine learning server; of the tasks, clip is done here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Response

from model.images.preprocessing import ImageError, open_header
from service.errors import ApiError, error_responses
from service.inference.pipeline import Pipeline
from service.request_context import RequestContext
from service.schema.compat.errors import WITH_MESSAGE
from service.schema.compat.immich import ClipEntry, PredictAnswer, PredictRequest
from service.schema.items import ImageItem, Item, parse_item
from service.settings import MAX_COUNT, Settings
from service.state import RequestContextDep, Service, ServiceDep
from service.web.openapi import WORK_CODES
from service.web.predict_form import PredictReader
from service.web.responses import json_response

router = APIRouter(tags=["immich"])
CODES = (*WORK_CODES, "unsupported_task", "upstream_failed")
HOW = "SIGHTWORD_MODEL_ALIASES gives a served model this name, as ViT-B-32__openai=NAME, where it is the same model"


@router.post(
    "/predict",
    summary="Embed a text or an image (immich)",
    responses={200: {"model": PredictAnswer}, **error_responses(*CODES, shape=WITH_MESSAGE)},
)
async def predict(
    request: Annotated[PredictRequest, Depends(PredictReader(PredictRequest).read)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Answer clip, and pass other tasks on where SIGHTWORD_IMMICH_FORWARD_URL says where to."""
    clip, others = request.entries.clip, request.entries.others
    if others:
        service.immich.check(others, context.headers)
    answer: dict[str, Any] = {}
    if clip is not None:
        answer |= await _embed(clip, request, service, context)
    if others:
        answer |= await service.immich.predict(others, request.image, request.text)
    return json_response(answer)


async def _embed(clip: ClipEntry, request: PredictRequest, service: Service, context: RequestContext) -> dict[str, Any]:
    item = _item(request, service.settings)
    with _model(service, clip) as pipeline:
        vectors = (await pipeline.embed([item], context, truncate=None, keep_errors=False)).vectors
    # immich keeps the string as it is, without a look into it.
    answer = {"clip": orjson.dumps(vectors[0], option=orjson.OPT_SERIALIZE_NUMPY).decode()}
    if request.image is None:
        return answer
    width, height = await service.shared.pool.run_in_thread(_size, request.image)
    return {**answer, "imageHeight": height, "imageWidth": width}


def _item(request: PredictRequest, settings: Settings) -> Item:
    if request.image is not None:
        return ImageItem(request.image, "image")
    return parse_item(request.text, "text", settings)


def _model(service: Service, clip: ClipEntry) -> AbstractContextManager[Pipeline]:
    try:
        return service.model(clip.name)
    except ApiError as error:
        if error.code != "model_not_found":
            raise
        param = f"entries.clip.{clip.tower}.modelName"
        raise ApiError(error.code, f"{error.message} {HOW}: vectors of different models do not fit.", param) from None


def _size(file: bytes) -> tuple[int, int]:
    """Width and height as they are stored, which is what immich's own server answers. The file has been embedded."""
    try:
        return open_header(file, MAX_COUNT).size
    except ImageError as error:
        raise ApiError(error.code, str(error), "image") from None
