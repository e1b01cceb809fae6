"""Answers to what never becomes a request: written to the connection as they are, in the shape that all errors have."""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple
from uuid import uuid4

from service.errors import ApiError, error_response

MAX_HEAD_BYTES = 64 * 1024  # room for labels in a query
MAX_PIPELINED = 32  # requests sent before the answer to the first; each is held


class Refusal(NamedTuple):
    """An answer to what never becomes a request."""

    status: HTTPStatus
    error: ApiError

    def written(self) -> bytes:
        """The whole of it, in the shape that all errors have."""
        response = error_response(self.error)
        head = [f"HTTP/1.1 {self.status.value} {self.status.phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        head += [b"x-content-type-options: nosniff", b"connection: close", b"x-request-id: " + uuid4().hex.encode()]
        return b"\r\n".join([*head, b"", bytes(response.body)])


NOT_HTTP = Refusal(HTTPStatus.BAD_REQUEST, ApiError("invalid_request", "This is not a valid HTTP request."))
HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ApiError("invalid_request", f"Address and headers are over {MAX_HEAD_BYTES} bytes; send options in a body."),
)
TOO_MANY_PIPELINED = Refusal(
    HTTPStatus.BAD_REQUEST, ApiError("invalid_request", f"Send at most {MAX_PIPELINED} requests before the answers.")
)
TOO_MANY_CONNECTIONS = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, ApiError("unavailable", "Too many connections are open; try again shortly.")
)
