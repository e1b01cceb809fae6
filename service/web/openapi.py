"""The parts of /openapi.json that FastAPI cannot see: bodies that the routes read themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.errors import documented
from service.schema.compat import EmbeddingsRequest, LabelsRequest, RerankRequest, TaskRequest
from service.schema.requests import ClassifyRequest, EmbedRequest, LabelSetRequest, SimilarityRequest
from service.web.auth import is_admin, is_open

REQUESTS = (
    EmbedRequest,
    SimilarityRequest,
    ClassifyRequest,
    LabelSetRequest,
    EmbeddingsRequest,
    LabelsRequest,
    RerankRequest,
    TaskRequest,
)
FILE = {"type": "string", "format": "binary"}
READ_AS_HEADERS = {
    f"x-{name}-read-as": {
        "schema": {"type": "string"},
        "description": f"how {name} in a form or a query were read, and how many: `json`, `lines`, `commas`, `single` "
        "and `repeated`, as in `repeated, commas; count=3; empty=1`",
    }
    for name in ("labels", "templates")
}
REF = "#/components/schemas/{model}"
WORK_CODES = (
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
WORK_ERRORS = documented(*WORK_CODES)
COMPATIBLE_ERRORS = documented(*WORK_CODES, "unsupported_modality")


def body_of(schema: type[BaseModel], options: type[BaseModel] | None = None) -> dict[str, Any]:
    """`openapi_extra=` of a route that takes `schema` as JSON and, with `options`, files with those."""
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
    if options is not None:
        fields = {name: _given(field) for name, field in options.model_json_schema()["properties"].items()}
        content["multipart/form-data"] = {"schema": _form(fields)}
        content["image/*"] = {"schema": FILE}
        for name, field in fields.items():
            parameters.append({"name": name, "in": "query", "required": False, "schema": field})
    return {"requestBody": {"required": True, "content": content}, "parameters": parameters}


def _form(fields: Mapping[str, Any]) -> dict[str, Any]:
    items = {
        "file": {"type": "array", "items": FILE, "description": "pictures; names and types of the files do not matter"},
        "text": {"type": "array", "items": {"type": "string", "minLength": 1}, "description": "texts, in UTF-8"},
    }
    return {
        "type": "object",
        "description": "The parts called file and text are the inputs, in the order in which they come; an error names "
        "one as inputs.N. Labels may be repeated, or stand in one field: as a JSON list, on lines, or between commas "
        "(in double quotes where a label holds one); templates likewise, but for commas. The headers "
        "x-labels-read-as and x-templates-read-as say how they were read; what could be read in two ways is refused.",
        "properties": {**items, **fields},
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in items],
    }


def _given(field: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without null, which has no form outside JSON: there, what is not given is left out."""
    plain = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    [kind] = [each for each in field.get("anyOf", [{}]) if each.get("type") != "null"]
    default = {"default": field["default"]} if field.get("default") is not None else {}
    return {**plain, **kind, **default}


def install(app: FastAPI, keys_required: bool, root_path: str) -> None:
    """Let `app.openapi()` include the requests' schemas, the keys that routes want, and the path they stand under."""
    app.openapi = _with_requests(app, keys_required, root_path)  # type: ignore[method-assign]  # the way FastAPI documents


def _with_requests(app: FastAPI, keys_required: bool, root_path: str) -> Callable[[], dict[str, Any]]:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                servers=[{"url": root_path}] if root_path else None,
            )
            _, definitions = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=REF)
            schema["components"]["schemas"].update(definitions["$defs"])
            _tell_of_keys(schema, keys_required)
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi


def _tell_of_keys(schema: dict[str, Any], keys_required: bool) -> None:
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, operations in schema["paths"].items():
        if is_admin(path) or (keys_required and not is_open(path)):
            for operation in operations.values():
                operation["security"] = [{"bearer": []}, {"x-api-key": []}]
