"""From a request's body to items and options: JSON, or one image file whose options stand in the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from service.errors import ApiError, from_validation
from service.items import ImageItem, Item
from service.state import Service, ServiceDep

M = TypeVar("M", bound=BaseModel)
Opt = TypeVar("Opt", bound=BaseModel)
INLINE_BYTES = 256 * 1024  # above this, parsing moves to a thread


class Body:
    """The body of one request and how it may be read."""

    def __init__(self, request: Request, service: Service) -> None:
        self._request, self._service = request, service

    async def read(self, schema: type[M], options: type[Opt]) -> tuple[Sequence[Item], Opt]:
        """Items and options, as JSON with `inputs` (a `schema`, which is also `options`) or as an image file."""
        if self._media_type().startswith("image/"):
            return await self._image(options)
        request: Any = await self.json(schema)
        return request.inputs, request

    async def json(self, schema: type[M]) -> M:
        """The JSON body as a `schema`. Raises `invalid_request` with the path of the first field that is wrong."""
        self._expect_json()
        body = await self._bytes()
        if self._request.query_params:
            raise ApiError("invalid_request", "With a JSON body, options are fields of the body, not of the query.")
        if len(body) <= INLINE_BYTES:
            return self._parse(schema, body)
        return await self._service.shared.in_thread(self._parse, schema, body)

    async def _image(self, options: type[Opt]) -> tuple[Sequence[Item], Opt]:
        """The body as one image file, and the query as `options`."""
        self._expect_no_coding()
        body = await self._bytes()
        if not body:
            raise ApiError("invalid_request", "The body is empty; send the image file itself.", "inputs")
        return [ImageItem(body, "inputs")], self._validate(options, self._query(options), strict=False)

    async def _bytes(self) -> bytes:
        self._service.shared.admission.refuse_if_full()
        return await self._request.body()

    def _media_type(self) -> str:
        return self._request.headers.get("content-type", "").partition(";")[0].strip().lower()

    def _expect_no_coding(self) -> None:
        if self._request.headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError("unsupported_media_type", "Send the body as it is, without Content-Encoding.")

    def _expect_json(self) -> None:
        self._expect_no_coding()
        kind, _, subtype = self._media_type().partition("/")
        if not kind or (kind == "application" and (subtype == "json" or subtype.endswith("+json"))):
            return
        raise ApiError(
            "unsupported_media_type",
            "Send JSON with Content-Type: application/json; /embed and /classify also take an image file with "
            "Content-Type: image/jpeg, image/png and so on.",
        )

    def _parse(self, schema: type[M], body: bytes) -> M:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ApiError("invalid_request", f"The body is not valid JSON: {error}.") from None
        if not isinstance(value, dict):
            raise ApiError("invalid_request", "The body must be a JSON object.")
        return self._validate(schema, value, strict=True)

    def _validate(self, schema: type[M], value: dict[str, Any], strict: bool) -> M:
        try:
            return schema.model_validate(value, strict=strict, context=self._service.settings)
        except ValidationError as error:
            raise from_validation(error) from None

    def _query(self, options: type[BaseModel]) -> dict[str, Any]:
        """Query parameters by name; those that are lists may be repeated, and labels may be separated by commas."""
        parameters = self._request.query_params
        values: dict[str, Any] = {}
        for name in parameters:
            given = parameters.getlist(name)
            if name == "labels":
                values[name] = [label.strip() for text in given for label in text.split(",")]
            elif name == "templates":
                values[name] = given
            elif len(given) == 1:
                values[name] = given[0]
            else:
                raise ApiError("invalid_request", "This parameter is there more than once.", name)
        return values


async def _body(request: Request, service: ServiceDep) -> Body:
    return Body(request, service)


BodyDep = Annotated[Body, Depends(_body)]
