"""POST /models/{id}: zero-shot image classification and feature extraction as Hugging Face's clients ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import ValidationError

from model.bundle import Bundle
from model.zeroshot import default_templates
from service.errors import ApiError, to_api_error
from service.inference.pipeline import Pipeline
from service.request_context import RequestContext
from service.schema.compat.common import LabelScore
from service.schema.compat.errors import WITH_MESSAGE
from service.schema.compat.huggingface import TASK_TEMPLATE, TaskParameters, TaskRequest
from service.schema.requests import ClassifyOptions
from service.settings import Settings
from service.state import RequestContextDep, Service, ServiceDep
from service.web.body import json_body
from service.web.openapi import compatible_errors
from service.web.responses import json_response, serialize_rows

router = APIRouter(tags=["Hugging Face"])
_CLIENT_PARAMS = {
    "model": "id",
    "labels": "parameters.candidate_labels",
    "templates": "parameters.hypothesis_template",
    "templates.0": "parameters.hypothesis_template",
}


@router.post(
    "/models/{id:path}",
    summary="Choose among labels, or embed texts (Hugging Face)",
    responses={
        200: {
            "model": list[LabelScore] | list[list[float]],
            "description": "Labels, best first; without parameters a vector for each text.",
        },
        **compatible_errors(WITH_MESSAGE),
    },
)
async def infer(
    id: str, request: Annotated[TaskRequest, json_body(TaskRequest)], service: ServiceDep, context: RequestContextDep
) -> Response:
    """Give this address as the `model` of huggingface_hub's InferenceClient."""
    with _rename_params(), service.model(id) as pipeline:
        if request.parameters is None:
            return await _features(request, pipeline, service, context)
        options = _options(request.parameters, pipeline.bundle, service.settings)
        # Their pipeline judges each label alone where the model was trained to.
        options = options.model_copy(update={"multi_label": pipeline.bundle.logit_bias is not None})
        classified = await service.zero_shot.classify(pipeline, request.inputs, options, context)
    [entry] = classified.data
    return json_response([{"label": each["label"], "score": each["score"]} for each in entry["predictions"]])


async def _features(request: TaskRequest, pipeline: Pipeline, service: Service, context: RequestContext) -> Response:
    embedded = await pipeline.embed(request.inputs, context, truncate=request.truncate, keep_errors=False)
    with context.timing.stage("serialize"):
        rows = await serialize_rows(lambda: embedded.vectors, embedded.vectors.size, service.shared)
        return json_response(rows)


def _options(parameters: TaskParameters, bundle: Bundle, settings: Settings) -> ClassifyOptions:
    default = TASK_TEMPLATE if bundle.categories is None else default_templates(bundle)[0]
    template = default if parameters.hypothesis_template is None else parameters.hypothesis_template
    chosen = {"labels": parameters.candidate_labels, "templates": [template], "truncate": parameters.truncate}
    try:
        return ClassifyOptions.model_validate(chosen, context=settings)
    except ValidationError as error:
        raise to_api_error(error) from None


@contextmanager
def _rename_params() -> Iterator[None]:
    """Refusals name the fields that the client sent."""
    try:
        yield
    except ApiError as error:
        raise error.at(_client_param(error.param)) if error.param else error from None


def _client_param(param: str) -> str:
    name, _, rest = param.partition(".")
    return _CLIENT_PARAMS.get(param) or ".".join(filter(None, (_CLIENT_PARAMS.get(name, name), rest)))
