"""The parts of /openapi.json that FastAPI cannot see: bodies that the routes read themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.errors import documented
from service.schemas import ClassifyRequest, EmbedRequest, SimilarityRequest

REQUESTS = (EmbedRequest, SimilarityRequest, ClassifyRequest)
REF = "#/components/schemas/{model}"
WORK_ERRORS = documented(
    "invalid_request",
    "text_too_long",
    "invalid_template",
    "too_many_inputs",
    "invalid_image",
    "url_not_allowed",
    "url_fetch_failed",
    "body_too_large",
    "image_too_large",
    "unsupported_media_type",
    "model_not_found",
    "label_set_not_found",
    "overloaded",
    "deadline_exceeded",
    "unavailable",
    "inference_error",
)


def body_of(schema: type[BaseModel], query: type[BaseModel] | None = None) -> dict[str, Any]:
    """`openapi_extra=` of a route that takes `schema` as JSON and, with `query`, an image file with those options."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": REF.format(model=schema.__name__)}}}
    parameters: list[dict[str, Any]] = [
        {
            "name": "x-request-timeout",
            "in": "header",
            "required": False,
            "description": "seconds after which the answer is of no use; never longer than the server's own limit",
            "schema": {"type": "number", "exclusiveMinimum": 0},
        }
    ]
    if query is not None:
        content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
        for name, field in query.model_json_schema()["properties"].items():
            parameters.append({"name": name, "in": "query", "required": False, "schema": field})
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def install(app: FastAPI) -> None:
    """Let `app.openapi()` include the requests' schemas."""
    app.openapi = _with_requests(app)  # type: ignore[method-assign]  # the way FastAPI documents


def _with_requests(app: FastAPI) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, definitions = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=REF)
            schema["components"]["schemas"].update(definitions["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi
