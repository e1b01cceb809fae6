"""From a request's body to its model: JSON, a form with files, or one image file with options in the query."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, NoReturn, TypeVar
from urllib.parse import parse_qsl

import numpy as np
import orjson
from fastapi import Depends
from pydantic import BaseModel, ValidationError

from service.errors import MAX_PARAM_CHARACTERS, ApiError, to_api_error
from service.request_context import RequestContext
from service.schema.items import ImageItem, Item
from service.settings import Settings
from service.state import RequestContextDep, ServiceDep
from service.thread_pool import INLINE_PARSED_BYTES
from service.web.form_lists import read_labels, read_templates
from service.web.multipart import read_form

M = TypeVar("M", bound=BaseModel)
JSON, FORM = "application/json", "multipart/form-data"
REF = "#/components/schemas/{model}"
MAX_JSON_VALUES = 1_000_000  # parsing more would hold up everything else for seconds, and take gigabytes
MAX_JSON_FIELDS = 100  # there is one complaint for each that is unknown
INTEGER_DIGITS = 20  # longer ones are read as floating-point numbers, which takes no time, as orjson does
_LISTS = {"labels": read_labels, "templates": read_templates}


@dataclass(frozen=True, slots=True)
class BodyReader(Generic[M]):
    """Reads the body of a request as a `model`; `/openapi.json` describes the body from the same two classes.

    With `options`, which are the fields of `model` without its `inputs`, the inputs may also come as a form with files
    or as one image file with the options in the query.
    """

    model: type[M]
    options: type[BaseModel] | None = None
    query_key: str | None = None  # the one name that may be in the query of a JSON body, and is read by others

    def content(self) -> dict[str, Any]:
        """The schemas of bodies that need no `options`, by media type."""
        return {JSON: {"schema": {"$ref": REF.format(model=self.model.__name__)}}}

    async def read(self, service: ServiceDep, context: RequestContextDep) -> M:
        """The body as a `model`. Raises `invalid_request` with the path of the first field that is wrong."""
        media_type = find_media_type(context)
        if self.options is not None and media_type == FORM:
            expect_no_coding(context)
            expect_no_query(context)
            # However short, it may be many parts.
            return await service.shared.pool.run_in_thread(self._from_form, context, service.settings)
        if self.options is not None and media_type.startswith("image/"):
            return self._from_image(context, service.settings)
        expect_json(media_type)
        expect_no_coding(context)
        expect_no_query(context, self.query_key)
        return await service.shared.pool.run_inline_or_in_thread(
            len(context.body), INLINE_PARSED_BYTES, self._from_json, context.body, service.settings
        )

    def _from_json(self, body: bytes, settings: Settings) -> M:
        return validate(self.model, parse_object(body), settings)

    def _from_form(self, context: RequestContext, settings: Settings) -> M:
        form = read_form(header(context, b"content-type"), context.body, settings)
        return self.with_inputs(form.items, form.fields, context, settings)

    def _from_image(self, context: RequestContext, settings: Settings) -> M:
        expect_no_coding(context)
        if not context.body:
            raise ApiError("invalid_request", "The body is empty; send the image file itself.", "inputs")
        fields = _parse_query(context.query_string)
        return self.with_inputs([ImageItem(context.body, "inputs")], fields, context, settings)

    def with_inputs(
        self, items: list[Item], fields: Mapping[str, list[str]], context: RequestContext, settings: Settings
    ) -> M:
        """The request of items that have been read, and of options as strings."""
        assert self.options is not None
        return self.complete(items, _parse_options(self.options, fields, context, settings))

    def complete(self, items: list[Item], options: BaseModel) -> M:
        """The request of inputs and options that have been validated."""
        # Copied, not constructed, which takes a tenth of an answer from the cache.
        request: M = _blank(self.model).model_copy(update={**options.__dict__, "inputs": items})
        return request


@cache
def _blank(model: type[M]) -> M:
    return model.model_construct()


@cache
def _defaults(options: type[BaseModel]) -> BaseModel:
    return options.model_validate({})


def json_body(model: type[BaseModel], query_key: str | None = None) -> Any:
    """The dependency of a route that takes JSON: `request: Annotated[Model, json_body(Model)]`."""
    return Depends(BodyReader(model, query_key=query_key).read)


def json_or_files(model: type[BaseModel], options: type[BaseModel]) -> Any:
    """The dependency of a route that also takes a form with files, or one image file: see BodyReader."""
    return Depends(BodyReader(model, options).read)


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object, within the limits of values and fields. Raises `invalid_request` or `too_many_inputs`."""
    if len(body) > MAX_JSON_VALUES and _most_values(body) > MAX_JSON_VALUES:
        raise ApiError("too_many_inputs", f"This JSON holds more than {MAX_JSON_VALUES} values; send fewer.")
    value = parse_json(body)
    if not isinstance(value, dict):
        raise ApiError("invalid_request", "The body must be a JSON object.")
    if len(value) > MAX_JSON_FIELDS:
        raise ApiError("invalid_request", f"The body has {len(value)} fields; see /docs for the ones there are.")
    return value


def _most_values(body: bytes) -> int:
    """How many values its JSON holds at most; numpy counts five times as fast as `bytes`, and without the lock."""
    octets = np.frombuffer(body, np.uint8)
    return sum(int(np.count_nonzero(octets == mark)) for mark in b"[{,")


def parse_json(body: bytes) -> Any:
    """The value. Raises `invalid_request`.

    orjson refuses all of a body for one half of a character ("\\ud800") or one number beyond all bounds (1e400). Read
    by Python's parser, which is slower, these are a string that no text can be and infinity.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = str(error)
    try:
        return json.loads(body.decode(), parse_int=_parse_integer, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError):
        pass
    raise ApiError("invalid_request", f"The body is not valid JSON: {why}.")


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= INTEGER_DIGITS else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON


@contextmanager
def within(field: str) -> Iterator[None]:
    """Let refusals name the fields of what stands in `field`."""
    try:
        yield
    except ApiError as error:
        raise error.at(f"{field}.{error.param}" if error.param else field) from None


def validate(model: type[M], value: Mapping[str, Any], settings: Settings, strict: bool = True) -> M:
    """The request of that value. Raises `invalid_request`."""
    try:
        return model.model_validate(value, strict=strict, context=settings)
    except ValidationError as error:
        raise to_api_error(error) from None


def _parse_options(
    options: type[BaseModel], fields: Mapping[str, list[str]], context: RequestContext, settings: Settings
) -> BaseModel:
    """From the strings of a form or a query, by name."""
    if not fields:
        return _defaults(options)
    values: dict[str, Any] = {}
    for name, texts in fields.items():
        if name in options.model_fields and name in _LISTS:
            values[name], context.read_as[name] = _LISTS[name](texts, settings.max_labels)
        elif len(texts) == 1 or name not in options.model_fields:
            values[name] = texts[0]
        else:
            raise ApiError("invalid_request", "This is there more than once.", name[:MAX_PARAM_CHARACTERS])
    return validate(options, values, settings, strict=False)


def _parse_query(query_string: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    if not query_string:
        return fields
    try:
        for name, value in parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict"):
            fields.setdefault(name, []).append(value)
    except UnicodeDecodeError:
        raise ApiError("invalid_request", "The query is not UTF-8; percent-encode it as such.") from None
    return fields


def header(context: RequestContext, name: bytes) -> str:
    """The value of a header; empty where there is none."""
    return context.headers.get(name, b"").decode("latin-1")


def find_media_type(context: RequestContext) -> str:
    """The media type of the body, in lower case; empty where there is none."""
    return header(context, b"content-type").partition(";")[0].strip().lower()


def expect_json(media_type: str) -> None:
    """Raise `unsupported_media_type` for what is not JSON."""
    kind, _, subtype = media_type.partition("/")
    if not kind or (kind == "application" and (subtype == "json" or subtype.endswith("+json"))):
        return
    raise ApiError(
        "unsupported_media_type",
        f"This route does not read {media_type[:100]!r}. Send JSON with Content-Type: application/json; "
        "/embed and /classify also take multipart/form-data, and an image file with Content-Type: image/jpeg, "
        "image/png and so on.",
    )


def expect_no_coding(context: RequestContext) -> None:
    """Raise `unsupported_media_type` for a compressed body."""
    if context.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise ApiError("unsupported_media_type", "Send the body as it is, without Content-Encoding.")


def expect_no_query(context: RequestContext, but: str | None = None) -> None:
    """Raise `invalid_request` for options in the query."""
    if context.query_string and _parse_query(context.query_string).keys() - {but}:
        message = "With a JSON or multipart body, options are fields of the body, not of the query."
        raise ApiError("invalid_request", message)
