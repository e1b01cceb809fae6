"""/label-sets: labels stored under a name, for /classify, and those that models bring along."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from model.own_labels import LABEL_SET
from model.zeroshot import default_templates
from service.classification.label_sets import NAME_PATTERN, LabelSet, is_name
from service.classification.zero_shot import check_only_names, check_prompts, select_templates
from service.errors import ApiError, error_responses
from service.inference.pipeline import Pipeline
from service.schema.answers import LabelSetAnswer, LabelSetsAnswer, LabelSetStored, LabelSetSummary
from service.schema.requests import LabelSetRequest
from service.state import RequestContextDep, Service, ServiceDep
from service.web.body import json_body
from service.web.openapi import WORK_ERRORS
from service.web.responses import json_response

router = APIRouter(tags=["zero-shot"])
_OWN = "These are the own categories of a model that is served here"


async def _check_name(name: Annotated[str, Path(json_schema_extra={"pattern": NAME_PATTERN})]) -> str:
    if not is_name(name):
        message = "A name is 1 to 64 letters, digits, dots, underscores and hyphens, and begins with a letter or digit."
        raise ApiError("invalid_request", message, "name")
    return name


NameDep = Annotated[str, Depends(_check_name)]


@router.get(
    "/label-sets",
    summary="The label sets",
    responses={200: {"model": LabelSetsAnswer}, **error_responses("unavailable")},
)
async def list_label_sets(service: ServiceDep) -> Response:
    """Tell what there is, without the labels: what is stored, then the categories of models that know these only."""
    stored, skipped = await service.label_sets.list()
    own = [_own_summary(pipeline) for pipeline in _with_own_labels(service)]
    return json_response({"label_sets": [summary.model_dump() for summary in (*stored, *own)], "skipped": skipped})


@router.get(
    "/label-sets/{name:path}",
    summary="A label set",
    responses={
        200: {"model": LabelSetAnswer},
        **error_responses("invalid_request", "label_set_not_found", "unavailable"),
    },
)
async def get_label_set(name: NameDep, service: ServiceDep) -> Response:
    """Give its labels and templates; `categories` are those of the first model served that has its own."""
    if name == LABEL_SET and (owners := _with_own_labels(service)):
        return await service.shared.pool.run_in_thread(json_response, _own_answer(owners[0]))
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
    if name == LABEL_SET and _with_own_labels(service):
        raise ApiError("invalid_request", f"{_OWN}; choose another name.", "name")
    with service.model(request.model) as pipeline:
        templates = select_templates(request) or default_templates(pipeline.bundle)
        check_only_names(pipeline.bundle, templates, request)
        check_prompts(request.labels, templates, request, service.settings)
        label_set = LabelSet(
            name=name,
            labels=request.labels,
            templates=list(templates),
            template_set=request.template_set,
            truncate=service.settings.truncate if request.truncate is None else request.truncate,
            updated=datetime.now(UTC).isoformat(),
        )
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
    try:
        await service.label_sets.remove(name)
    except ApiError as error:
        if error.code == "label_set_not_found" and name == LABEL_SET and _with_own_labels(service):
            raise ApiError("invalid_request", f"{_OWN}; they go when it is no longer served.", "name") from None
        raise


def _with_own_labels(service: Service) -> list[Pipeline]:
    """The models that bring labels along, the default one first."""
    return [pipeline for pipeline in service.models.serving if pipeline.own_labels is not None]


def _own_summary(pipeline: Pipeline) -> LabelSetSummary:
    bundle = pipeline.bundle
    return LabelSetSummary(
        name=LABEL_SET,
        label_count=bundle.categories or 0,
        template_count=len(default_templates(bundle)),
        template_set=None,
        truncate=False,
        updated=bundle.manifest.created,
        own_of=bundle.id,
    )


def _own_answer(pipeline: Pipeline) -> dict[str, object]:
    assert pipeline.own_labels is not None
    templates = list(default_templates(pipeline.bundle))
    return {**_own_summary(pipeline).model_dump(), "labels": pipeline.own_labels.labels, "templates": templates}


def _answer(label_set: LabelSet) -> dict[str, object]:
    return {**label_set.summary().model_dump(), "labels": label_set.labels, "templates": label_set.templates}
