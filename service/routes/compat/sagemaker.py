"""POST /invocations: what a container of SageMaker is called by, and Vertex AI at the path of its choice.

Both ask at /ping, or at another path of their choice, whether it is ready.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from service.errors import ApiError
from service.schema.compat.sagemaker import InvocationAnswer, InvocationOptions, InvocationRequest
from service.schema.requests import ClassifyRequest
from service.state import RequestContextDep, ServiceDep
from service.web.invocations import Invocation, InvocationReader
from service.web.native_answers import answer_classify, answer_embed
from service.web.openapi import READ_AS_HEADERS, WORK_ERRORS
from service.web.responses import NPY, RAW

router = APIRouter(tags=["SageMaker and Vertex AI"])
MATRIX = {"schema": {"type": "string", "format": "binary"}}
OF_ITEMS_OR_HEADERS = ("instances", "accept")


@router.post(
    "/invocations",
    summary="Embed, or choose among labels (SageMaker, Vertex AI)",
    responses={
        200: {"model": InvocationAnswer, "headers": READ_AS_HEADERS, "content": {NPY: MATRIX, RAW: MATRIX}},
        **WORK_ERRORS,
    },
)
async def invoke(
    request: Annotated[Invocation, Depends(InvocationReader(InvocationRequest, InvocationOptions).read)],
    service: ServiceDep,
    context: RequestContextDep,
) -> Response:
    """With labels or label_set the answer of /classify, else that of /embed; to instances, predictions."""
    sent, arrange = request.request, _predictions if request.of_instances else None
    try:
        if isinstance(sent, ClassifyRequest):
            return await answer_classify(sent, service, context, arrange)
        return await answer_embed(sent, service, context, arrange)
    except ApiError as error:
        if request.of_instances and error.param and not error.param.startswith(OF_ITEMS_OR_HEADERS):
            raise error.at(f"parameters.{error.param}") from None
        raise


def _predictions(content: dict[str, Any]) -> dict[str, Any]:
    return {"predictions": content["data"]}
