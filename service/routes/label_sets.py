"""/label-sets: labels stored under a name, for /classify."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from model.zeroshot import DEFAULT_TEMPLATES
from service.classification.label_sets import NAME_PATTERN, LabelSet, is_name
from service.classification.zero_shot import check_prompts, select_templates
from service.errors import ApiError, error_responses
from service.schema.answers import LabelSetAnswer, LabelSetsAnswer, LabelSetStored
from service.schema.requests import LabelSetRequest
from service.state import RequestContextDep, ServiceDep
from service.web.body import json_body
from service.web.openapi import WORK_ERRORS
from service.web.responses import json_response

router = APIRouter(tags=["zero-shot"])


async def _check_name(name: Annotated[str, Path(json_schema_extra={"pattern": NAME_PATTERN})]) -> str:
    if not is_name(name):
        message = "A name is 1 to 64 letters, digits, dots, underscores and hyphens, and begins with a letter or digit."
        raise ApiError("invalid_request", message, "name")
    return name


NameDep = Annotated[str, Depends(_check_name)]


@router.get(
    "/label-sets",
    summary="The stored label sets",
    responses={200: {"model": LabelSetsAnswer}, **error_responses("unavailable")},
)
async def list_label_sets(service: ServiceDep) -> Response:
    """Tell what there is, without the labels."""
    summaries, skipped = await service.label_sets.list()
    return json_response({"label_sets": [summary.model_dump() for summary in summaries], "skipped": skipped})


@router.get(
    "/label-sets/{name:path}",
    summary="A stored label set",
    responses={
        200: {"model": LabelSetAnswer},
        **error_responses("invalid_request", "label_set_not_found", "unavailable"),
    },
)
async def get_label_set(name: NameDep, service: ServiceDep) -> Response:
    """Give its labels and templates."""
    label_set = await service.label_sets.find(name, "name")
    return await service.shared.pool.run_in_thread(json_response, _answer(label_set))


@router.put(
    "/label-sets/{name:path}",
    summary="Store a label set",
    responses={
        200: {"model": LabelSetStored, "description": "It took the place of what had this name."},
        201: {"model": LabelSetStored, "description": "It is new."},
        **WORK_ERRORS,
    },
)
async def put_label_set(
    name: NameDep,
    request: Annotated[LabelSetRequest, json_body(LabelSetRequest)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """Embed it, so that nothing is stored that cannot be used, and store it under this name.

    From then on, `{"inputs": ..., "label_set": name}` to /classify costs no more than the inputs.
    """
    templates = select_templates(request) or DEFAULT_TEMPLATES
    check_prompts(request.labels, templates, request, service.settings)
    label_set = LabelSet(
        name=name,
        labels=request.labels,
        templates=list(templates),
        template_set=request.template_set,
        truncate=service.settings.truncate if request.truncate is None else request.truncate,
        updated=datetime.now(UTC).isoformat(),
    )
    with service.model(request.model) as pipeline:
        await service.label_sets.check_capacity(name)
        classes = await service.classes.get(pipeline, label_set.prompts, context)
    is_new = await service.label_sets.put(label_set)
    content = {**_answer(label_set), "model": pipeline.bundle.id, "usage": classes.usage}
    answer = await service.shared.pool.run_in_thread(json_response, content)
    answer.status_code = 201 if is_new else 200
    return answer


@router.delete(
    "/label-sets/{name:path}",
    summary="Remove a label set",
    status_code=204,
    response_class=Response,
    responses=error_responses("invalid_request", "label_set_not_found", "unavailable"),
)
async def delete_label_set(name: NameDep, service: ServiceDep) -> None:
    """It can no longer be used."""
    await service.label_sets.remove(name)


def _answer(label_set: LabelSet) -> dict[str, object]:
    return {**label_set.summary().model_dump(), "labels": label_set.labels, "templates": label_set.templates}
