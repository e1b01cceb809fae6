"""What /openapi.json holds beyond FastAPI's own: bodies, from how each endpoint reads its own, and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.errors import ErrorShape, error_responses
from service.schema.examples import REQUESTS
from service.web.auth import is_admin, is_open
from service.web.body import FORM, JSON, REF, BodyReader
from service.web.endpoints import Endpoint

FILE = {"type": "string", "format": "binary"}
READ_AS_HEADERS = {
    f"x-{name}-read-as": {
        "schema": {"type": "string"},
        "description": f"how {name} in a form or a query were read, and how many: `json`, `lines`, `commas`, `single` "
        "and `repeated`, as in `repeated, commas; count=3; empty=1`",
    }
    for name in ("labels", "templates")
}
TIMEOUT = {
    "name": "x-request-timeout",
    "in": "header",
    "required": False,
    "description": "seconds after which the answer is of no use; never longer than the server's own limit",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
WORK_CODES = (
    "invalid_request",
    "text_too_long",
    "unknown_text",
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
    "unsupported_modality",
    "inference_error",
)
WORK_ERRORS = error_responses(*WORK_CODES)


def compatible_errors(shape: ErrorShape) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a compatible API that does work, and writes its errors in this shape."""
    return error_responses(*WORK_CODES, shape=shape)


def _describe_body(operation: dict[str, Any], reader: BodyReader[Any]) -> None:
    """Add what `reader` takes: JSON and, with options, files with those as fields of a form or a query."""
    content = reader.content()
    parameters = operation.setdefault("parameters", [])
    parameters.append(TIMEOUT)
    if reader.options is not None:
        properties = reader.options.model_json_schema()["properties"]
        fields = {name: _without_null(field) for name, field in properties.items()}
        content[FORM] = {"schema": _form(fields)}
        content["image/*"] = {"schema": FILE}
        for name, field in fields.items():
            parameters.append({"name": name, "in": "query", "required": False, "schema": field})
    operation["requestBody"] = {"required": True, "content": content}


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


def _without_null(field: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without null, which has no form outside JSON: there, what is not given is left out."""
    plain = {name: value for name, value in field.items() if name not in ("anyOf", "default")}
    [kind] = [each for each in field.get("anyOf", [{}]) if each.get("type") != "null"]
    default = {"default": field["default"]} if field.get("default") is not None else {}
    return {**plain, **kind, **default}


def install(
    app: FastAPI,
    endpoints: Sequence[Endpoint],
    keys_required: bool,
    root_path: str,
    aliases: Mapping[str, str],
    model_id: Callable[[], str],
) -> None:
    """Let `app.openapi()` include the bodies of `endpoints`, keys, the path in front, and paths by their `aliases`.

    `model_id` gives the id of the first model, for the examples.
    """

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
            for route, reader in ((each.route, each.reader) for each in endpoints if each.route.include_in_schema):
                for method in route.methods or ():
                    _describe_body(schema["paths"][route.path_format][method.lower()], reader)
            models = dict.fromkeys(endpoint.reader.model for endpoint in endpoints)
            _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF)
            schema["components"]["schemas"].update(definitions["$defs"])
            _describe_keys(schema, keys_required)
            _add_examples(schema["paths"], {"id": model_id(), "name": "pets"})
            for number, (alias, path) in enumerate(aliases.items()):
                schema["paths"][alias] = _renamed(schema["paths"][path], f"alias_{number}")
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def _renamed(operations: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The same operations under other ids, each of which must be there once."""
    return {
        method: {**operation, "operationId": f"{prefix}_{operation['operationId']}"}
        for method, operation in operations.items()
    }


def _add_examples(paths: Mapping[str, Any], path_parameters: Mapping[str, str]) -> None:
    """Of the bodies, and of what stands in the path."""
    for path, operations in paths.items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    parameter["example"] = path_parameters[parameter["name"]]
            if path in REQUESTS and "requestBody" in operation:
                examples = {name: {"summary": name, "value": value} for name, value in REQUESTS[path].items()}
                operation["requestBody"]["content"][JSON]["examples"] = examples


def _describe_keys(schema: dict[str, Any], keys_required: bool) -> None:
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, operations in schema["paths"].items():
        if is_admin(path) or (keys_required and not is_open(path)):
            for operation in operations.values():
                operation["security"] = [{"bearer": []}, {"x-api-key": []}]
