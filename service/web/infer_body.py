"""Bodies of the Open Inference Protocol: a JSON object, and behind it the bytes of tensors.

Of the bytes of one tensor, each element has its length in front, as four bytes, the lowest first. Nothing here is a
pickle: what numpy would unpickle is never read.
"""

from __future__ import annotations

from typing import Any

from service.errors import ApiError
from service.request_context import RequestContext
from service.schema.compat.open_inference import DATATYPE, InferRequest
from service.schema.items import check_count
from service.settings import Settings
from service.state import RequestContextDep, ServiceDep
from service.thread_pool import INLINE_PARSED_BYTES
from service.web.body import (
    BodyReader,
    expect_json,
    expect_no_coding,
    expect_no_query,
    find_media_type,
    header,
    parse_object,
    validate,
)

BINARY = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"  # bytes of the JSON, where more bytes follow
LENGTH_BYTES = 4


class InferReader(BodyReader[InferRequest]):
    """Reads JSON, with or without the bytes of tensors behind it."""

    def content(self) -> dict[str, Any]:
        """JSON, and what has bytes behind it."""
        json = BodyReader.content(self)
        description = f"The JSON, whose length the header {HEADER_LENGTH} says, and behind it the bytes of tensors."
        return {**json, BINARY: {"schema": {"type": "string", "format": "binary", "description": description}}}

    async def read(self, service: ServiceDep, context: RequestContextDep) -> InferRequest:
        """The request. Raises `invalid_request` where lengths do not fit each other."""
        media_type = find_media_type(context)
        if media_type != BINARY or not header(context, HEADER_LENGTH.encode()):
            expect_json(media_type)
        expect_no_coding(context)
        expect_no_query(context)
        return await service.shared.pool.run_inline_or_in_thread(
            len(context.body), INLINE_PARSED_BYTES, self._parse, context, service.settings
        )

    def _parse(self, context: RequestContext, settings: Settings) -> InferRequest:
        length = _json_length(header(context, HEADER_LENGTH.encode()), len(context.body))
        value = parse_object(context.body[:length])
        _attach(value.get("inputs"), memoryview(context.body)[length:], settings.compatible_items())
        return validate(self.model, value, settings)


def _json_length(text: str, available: int) -> int:
    if not text:
        return available
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= available):
        message = f"This header is the length of the JSON in front, at most the {available} bytes that there are."
        raise ApiError("invalid_request", message, HEADER_LENGTH)
    return int(text)


def _attach(tensors: object, rest: memoryview, limit: int) -> None:
    """Give each tensor its elements from the bytes behind the JSON, which must all belong to one."""
    start = 0
    for index, tensor in enumerate(tensors if isinstance(tensors, list) else ()):
        parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            continue
        param = f"inputs.{index}.parameters.binary_data_size"
        if type(size) is not int or not 0 <= size <= len(rest) - start:
            message = f"This is a number of bytes; behind the JSON {len(rest) - start} are left."
            raise ApiError("invalid_request", message, param)
        if "data" in tensor:
            raise ApiError("invalid_request", "Send either data or binary_data_size.", param)
        chunk = rest[start : start + size]
        tensor["data"] = _elements(chunk, limit, f"inputs.{index}") if tensor.get("datatype") == DATATYPE else []
        start += size
    if start != len(rest):
        message = f"{len(rest) - start} bytes behind the JSON belong to no tensor."
        raise ApiError("invalid_request", message, "inputs")


def _elements(chunk: memoryview, limit: int, param: str) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(chunk):
        check_count(len(elements) + 1, limit, "items", param)
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(chunk[at:start], "little")
        if start > len(chunk) or at > len(chunk):
            message = f"Element {len(elements)} is longer than the bytes that there are for it."
            raise ApiError("invalid_request", message, f"{param}.data")
        elements.append(bytes(chunk[start:at]))
    return elements
