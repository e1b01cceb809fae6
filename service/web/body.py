"""From a request's body to items and options: JSON, a form with files, or one image file with options in the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError
from starlette.types import Scope

from service.errors import MAX_PARAM_CHARACTERS, ApiError, from_validation
from service.request_context import RequestContext
from service.schema.items import ImageItem, Item
from service.state import Service, ServiceDep
from service.thread_pool import INLINE_PARSED_BYTES
from service.web.form_lists import read_labels, read_templates
from service.web.multipart import read_form
from service.web.strict_json import parse_json

M = TypeVar("M", bound=BaseModel)
Opt = TypeVar("Opt", bound=BaseModel)
MAX_JSON_VALUES = 1_000_000  # parsing more would hold up everything else for seconds, and take gigabytes
MAX_JSON_FIELDS = 100  # there is one complaint for each that is unknown
_LISTS = {"labels": read_labels, "templates": read_templates}


class Body:
    """The body of one request and how it may be read."""

    def __init__(self, scope: Scope, service: Service) -> None:
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._query_string: bytes = scope["query_string"]
        self._call: RequestContext = scope["state"]["call"]
        self._service = service

    async def read(self, schema: type[M], options: type[Opt]) -> tuple[Sequence[Item], Opt]:
        """Items and options: JSON with `inputs` (a `schema`, which is also `options`), multipart, or an image file."""
        media_type = self._media_type()
        if media_type == "multipart/form-data":
            body = self._bytes_with_options()
            # However short, it may be many parts.
            return await self._service.shared.pool.run_in_thread(self._form, options, body)
        if media_type.startswith("image/"):
            return self._image(options)
        request: Any = await self.json(schema)
        return request.inputs, request

    async def json(self, schema: type[M]) -> M:
        """The JSON body as a `schema`. Raises `invalid_request` with the path of the first field that is wrong."""
        self._expect_json()
        body = self._bytes_with_options()
        pool = self._service.shared.pool
        return await pool.run_inline_or_in_thread(len(body), INLINE_PARSED_BYTES, self._json, schema, body)

    def _image(self, options: type[Opt]) -> tuple[Sequence[Item], Opt]:
        """The body as one image file, and the query as `options`."""
        body = self._bytes()
        if not body:
            raise ApiError("invalid_request", "The body is empty; send the image file itself.", "inputs")
        return [ImageItem(body, "inputs")], self._options(options, self._query())

    def _bytes_with_options(self) -> bytes:
        body = self._bytes()
        if self._query():
            message = "With a JSON or multipart body, options are fields of the body, not of the query."
            raise ApiError("invalid_request", message)
        return body

    def _bytes(self) -> bytes:
        self._expect_no_coding()
        return self._call.body

    def header(self, name: bytes) -> str:
        """The value of a header, empty where there is none."""
        return self._headers.get(name, b"").decode("latin-1")

    def _media_type(self) -> str:
        return self.header(b"content-type").partition(";")[0].strip().lower()

    def _expect_no_coding(self) -> None:
        if self._headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ApiError("unsupported_media_type", "Send the body as it is, without Content-Encoding.")

    def _expect_json(self) -> None:
        kind, _, subtype = self._media_type().partition("/")
        if not kind or (kind == "application" and (subtype == "json" or subtype.endswith("+json"))):
            return
        raise ApiError(
            "unsupported_media_type",
            f"This route does not read {self._media_type()[:100]!r}. Send JSON with Content-Type: application/json; "
            "/embed and /classify also take multipart/form-data, and an image file with Content-Type: image/jpeg, "
            "image/png and so on.",
        )

    def _json(self, schema: type[M], body: bytes) -> M:
        if sum(body.count(mark) for mark in (b"[", b"{", b",")) > MAX_JSON_VALUES:
            raise ApiError("too_many_inputs", f"This JSON holds more than {MAX_JSON_VALUES} values; send fewer.")
        value = parse_json(body)
        if not isinstance(value, dict):
            raise ApiError("invalid_request", "The body must be a JSON object.")
        if len(value) > MAX_JSON_FIELDS:
            raise ApiError("invalid_request", f"The body has {len(value)} fields; see /docs for the ones there are.")
        return self._validate(schema, value, strict=True)

    def _validate(self, schema: type[M], value: dict[str, Any], strict: bool) -> M:
        try:
            return schema.model_validate(value, strict=strict, context=self._service.settings)
        except ValidationError as error:
            raise from_validation(error) from None

    def _form(self, options: type[Opt], body: bytes) -> tuple[Sequence[Item], Opt]:
        form = read_form(self.header(b"content-type"), body, self._service.settings)
        return form.items, self._options(options, form.fields)

    def _query(self) -> dict[str, list[str]]:
        given: dict[str, list[str]] = {}
        if not self._query_string:
            return given
        try:
            for name, value in parse_qsl(self._query_string.decode(), keep_blank_values=True, errors="strict"):
                given.setdefault(name, []).append(value)
        except UnicodeDecodeError:
            raise ApiError("invalid_request", "The query is not UTF-8; percent-encode it as such.") from None
        return given

    def _options(self, options: type[Opt], given: Mapping[str, list[str]]) -> Opt:
        """From strings by name."""
        values: dict[str, Any] = {}
        for name, texts in given.items():
            if name in options.model_fields and name in _LISTS:
                values[name], self._call.read_as[name] = _LISTS[name](texts, self._service.settings.max_labels)
            elif len(texts) == 1 or name not in options.model_fields:
                values[name] = texts[0]
            else:
                raise ApiError("invalid_request", "This is there more than once.", name[:MAX_PARAM_CHARACTERS])
        return self._validate(options, values, strict=False)


async def _body(request: Request, service: ServiceDep) -> Body:
    return Body(request.scope, service)


BodyDep = Annotated[Body, Depends(_body)]
