"""The Open Inference Protocol under /v2, of KServe and Triton, with the extension for binary tensors."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Response

from model import __version__
from service.errors import ApiError, error_responses
from service.inference.pipeline import Pipeline
from service.request_context import RequestContext
from service.schema.compat.errors import FLAT
from service.schema.compat.open_inference import (
    BINARY_DATA,
    DATATYPE,
    EMBEDDING,
    IMAGE,
    TEXT,
    VERSION,
    InferAnswer,
    InferRequest,
    ModelMetadataAnswer,
    ModelReadyAnswer,
    ServerMetadataAnswer,
    TensorMetadata,
)
from service.state import RequestContextDep, Service, ServiceDep
from service.thread_pool import INLINE_WRITTEN_NUMBERS
from service.web.infer_body import BINARY, HEADER_LENGTH, InferReader
from service.web.openapi import compatible_errors
from service.web.responses import Matrix, json_response

router = APIRouter(tags=["Open Inference Protocol"])
INFER: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InferAnswer,
        "description": f"With binary output, the header {HEADER_LENGTH} says how long the JSON is.",
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
    },
    **compatible_errors(FLAT),
}
FIND = error_responses("model_not_found", "unavailable", shape=FLAT)
Infer = Annotated[InferRequest, Depends(InferReader(InferRequest).read)]


@router.get("/v2", summary="The server (Open Inference Protocol)", responses=error_responses(shape=FLAT))
async def server_metadata() -> ServerMetadataAnswer:
    """Name the service and the extension that it has."""
    return ServerMetadataAnswer(name="sightword", version=__version__, extensions=[BINARY_DATA])


# Those with a version stand in front, since an id may hold slashes.
@router.get("/v2/models/{id:path}/versions/{version}/ready", include_in_schema=False)
async def version_ready(id: str, version: str, service: ServiceDep) -> ModelReadyAnswer:
    """As without a version."""
    return await _ready(id, service, version)


@router.get("/v2/models/{id:path}/ready", summary="A model is ready (Open Inference Protocol)", responses=FIND)
async def model_ready(id: str, service: ServiceDep) -> ModelReadyAnswer:
    """Answer 200 where the model takes requests."""
    return await _ready(id, service, None)


async def _ready(id: str, service: Service, version: str | None) -> ModelReadyAnswer:
    """Raise `model_not_found` or `unavailable` where it does not."""
    _find(id, version, service)
    if not await service.ready():
        raise ApiError("unavailable", "The service is draining, or the model fails on a probe.")
    return ModelReadyAnswer(name=id, ready=True)


@router.post("/v2/models/{id:path}/versions/{version}/infer", include_in_schema=False)
async def infer_version(
    id: str, version: str, request: Infer, service: ServiceDep, context: RequestContextDep
) -> Response:
    """As without a version."""
    return await _infer(id, version, request, service, context)


@router.post("/v2/models/{id:path}/infer", summary="Embed texts and images (Open Inference)", responses=INFER)
async def infer(id: str, request: Infer, service: ServiceDep, context: RequestContextDep) -> Response:
    """Give the elements of the tensors `text` and `image`, in their order, each a row of `embedding`."""
    return await _infer(id, None, request, service, context)


@router.get("/v2/models/{id:path}/versions/{version}", include_in_schema=False)
async def version_metadata(id: str, version: str, service: ServiceDep) -> ModelMetadataAnswer:
    """As without a version."""
    return _metadata(id, _find(id, version, service))


@router.get("/v2/models/{id:path}", summary="The tensors of a model (Open Inference Protocol)", responses=FIND)
async def model_metadata(id: str, service: ServiceDep) -> ModelMetadataAnswer:
    """Name its inputs and its output."""
    return _metadata(id, _find(id, None, service))


def _find(id: str, version: str | None, service: Service) -> Pipeline:
    if version not in (None, VERSION):
        raise ApiError("model_not_found", f"A model is served in one version, {VERSION}.", "version")
    return service.models.find(id)


def _metadata(id: str, pipeline: Pipeline) -> ModelMetadataAnswer:
    inputs = (TEXT, IMAGE) if pipeline.bundle.mixture is None else (TEXT,)  # a picture has to be one row
    return ModelMetadataAnswer(
        name=id,
        versions=[VERSION],
        platform="onnxruntime_onnx",
        inputs=[TensorMetadata(name=name, datatype=DATATYPE, shape=[-1]) for name in inputs],
        outputs=[TensorMetadata(name=EMBEDDING, datatype="FP32", shape=[-1, pipeline.bundle.dimensions])],
    )


async def _infer(
    id: str, version: str | None, request: InferRequest, service: Service, context: RequestContext
) -> Response:
    with service.models.use(_find(id, version, service)) as pipeline:
        truncate = request.parameters.truncate
        vectors = (await pipeline.embed(request.inputs, context, truncate=truncate, keep_errors=False)).vectors
    head = {"model_name": id, "model_version": VERSION} | ({} if request.id is None else {"id": request.id})
    output: dict[str, Any] = {"name": EMBEDDING, "datatype": "FP32", "shape": list(vectors.shape)}
    with context.timing.stage("serialize"):
        if request.is_answered_in_binary:
            return _binary_response(head, output, vectors.astype("<f4", copy=False).tobytes())
        pool = service.shared.pool
        output["data"] = await pool.run_inline_or_in_thread(vectors.size, INLINE_WRITTEN_NUMBERS, _flat, vectors)
        return json_response({**head, "outputs": [output]})


def _binary_response(head: dict[str, Any], output: dict[str, Any], data: bytes) -> Response:
    json = orjson.dumps({**head, "outputs": [{**output, "parameters": {"binary_data_size": len(data)}}]})
    return Response(json + data, media_type=BINARY, headers={HEADER_LENGTH: str(len(json))})


def _flat(vectors: Matrix) -> orjson.Fragment:
    """All numbers in one list; written row by row, because writing holds up every other thread."""
    rows = [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for row in vectors]
    return orjson.Fragment(b"[" + b",".join(rows) + b"]")


async def _no_extension() -> None:
    message = f"Of the extensions of Triton there is only {BINARY_DATA}: no repository, no shared memory, no tracing."
    raise ApiError("not_found", message)


for name in ("repository", "systemsharedmemory", "cudasharedmemory", "trace", "logging"):
    for path in (f"/v2/{name}", f"/v2/{name}/{{rest:path}}"):
        router.add_api_route(path, _no_extension, methods=["GET", "POST"], include_in_schema=False)
