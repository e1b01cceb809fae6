"""Every way a request can be refused: one table, one exception, one body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Literal, NamedTuple, TypeVar

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

ErrorType = Literal[
    "invalid_request_error", "authentication_error", "not_found_error", "rate_limit_error", "server_error"
]


class ErrorKind(NamedTuple):
    """Status, type and description of one error code."""

    status: int
    type: ErrorType
    when: str


INVALID: ErrorType = "invalid_request_error"
ERROR_KINDS: Mapping[str, ErrorKind] = {
    "invalid_request": ErrorKind(422, INVALID, "not JSON, a wrong type, a missing, empty or unknown field"),
    "text_too_long": ErrorKind(422, INVALID, "a text longer than the context, and `truncate` is false"),
    "unknown_text": ErrorKind(422, INVALID, "a text that is no category of a model which knows these by name only"),
    "invalid_template": ErrorKind(422, INVALID, "a template without exactly one `{}`"),
    "too_many_inputs": ErrorKind(422, INVALID, "too many items, labels, templates, or labels times templates"),
    "invalid_image": ErrorKind(422, INVALID, "not an accepted format, truncated or corrupt"),
    "url_not_allowed": ErrorKind(422, INVALID, "URLs are off, the host is not allowed, or the address is not public"),
    "invalid_bundle": ErrorKind(422, INVALID, "a bundle that cannot be served; the one before it still is"),
    "unsupported_modality": ErrorKind(
        422, INVALID, "what no model here reads, or of a picture one vector where it has several"
    ),
    "body_too_large": ErrorKind(413, INVALID, "the body is over the limit, counted as received"),
    "image_too_large": ErrorKind(413, INVALID, "the picture's header announces more pixels than the limit"),
    "unsupported_media_type": ErrorKind(415, INVALID, "a Content-Type or Content-Encoding that is not read here"),
    "method_not_allowed": ErrorKind(405, INVALID, "the path exists, the method does not"),
    "not_found": ErrorKind(404, "not_found_error", "no such path"),
    "model_not_found": ErrorKind(404, "not_found_error", "a model that is not served"),
    "label_set_not_found": ErrorKind(404, "not_found_error", "a label set that is not stored"),
    "invalid_api_key": ErrorKind(401, "authentication_error", "no key or a wrong key"),
    "url_fetch_failed": ErrorKind(424, INVALID, "a URL that could not be fetched, in time and within the size limit"),
    "overloaded": ErrorKind(429, "rate_limit_error", "the queue is full; told before any work is done"),
    "unsupported_task": ErrorKind(422, INVALID, "a task of immich that is not done here, and not passed on"),
    "upstream_failed": ErrorKind(502, "server_error", "the server that a task was passed on to failed"),
    "inference_error": ErrorKind(500, "server_error", "the model failed on this item"),
    "internal_error": ErrorKind(500, "server_error", "a fault of the service"),
    "unavailable": ErrorKind(503, "server_error", "starting or draining, or the store of label sets does not answer"),
    "deadline_exceeded": ErrorKind(504, "server_error", "not done within the server's or the client's time"),
}
ANY_ROUTE = ("invalid_api_key", "overloaded", "deadline_exceeded")
MAX_PARAM_CHARACTERS = 200  # the name of an unknown field can be as long as the body
LONE_SURROGATE = "This text holds half of a character: a surrogate such as \\ud800 stands only beside its other half."
RETRY_AFTER_S = {"overloaded": "1", "unavailable": "5"}
_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "unsupported_media_type"}


class ApiError(Exception):
    """A refusal that the client is told. `param` is the path of the field, such as `inputs.3.image`."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param if param is None else _replace_surrogates(param)
        self.status, self.type, _ = ERROR_KINDS[code]

    def detail(self) -> dict[str, str | None]:
        """The object under `error` in the body."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def headers(self) -> dict[str, str]:
        """Headers that go with it: `www-authenticate`, `retry-after`."""
        if self.code == "invalid_api_key":
            return {"www-authenticate": "Bearer"}
        retry_after_s = RETRY_AFTER_S.get(self.code)
        return {"retry-after": retry_after_s} if retry_after_s else {}

    def at(self, param: str) -> ApiError:
        """The same error, for the field at `param`."""
        return ApiError(self.code, self.message, param)


E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """The same error, to be stored or raised: a new one of an ApiError, any other itself, without its traceback.

    What is stored must not lead to the frames that it came through: these hold pictures, and as a rule also what it is
    stored in, so that only the garbage collector would ever free them. And what is stored must not be raised itself,
    which would give it frames again.
    """
    if isinstance(error, ApiError):
        return type(error)(error.code, error.message, error.param)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _replace_surrogates(text: str) -> str:
    """Without lone surrogates, which JSON can spell and UTF-8 cannot encode."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class ErrorDetail(BaseModel):
    """What went wrong and what to change."""

    message: str
    type: ErrorType
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """What every status from 400 up carries."""

    error: ErrorDetail


class ErrorShape(NamedTuple):
    """How an API writes its errors: the model that documents it, and what makes it of an error."""

    model: type[BaseModel]
    render: Callable[[ApiError], dict[str, Any]]


NATIVE_ERRORS = ErrorShape(ErrorBody, lambda error: {"error": error.detail()})


class ErrorResponse(Response):
    """An error as JSON, in the shape of the API that the request was for."""

    def __init__(
        self, error: ApiError, headers: Mapping[str, str] | None = None, shape: ErrorShape | None = None
    ) -> None:
        self._error, self._more_headers = error, headers
        content = orjson.dumps((shape or NATIVE_ERRORS).render(error))
        all_headers = {**error.headers(), **(headers or {})}
        super().__init__(content, status_code=error.status, media_type="application/json", headers=all_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the context of the request says in which shape."""
        shape: ErrorShape = scope["state"]["context"].error_shape
        if shape is not NATIVE_ERRORS:
            await Response.__call__(ErrorResponse(self._error, self._more_headers, shape), scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def error_responses(
    *codes: str, open_to_all: bool = False, shape: ErrorShape = NATIVE_ERRORS
) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route that can answer these codes, beside those of any route."""
    always = ("internal_error",) if open_to_all else (*ANY_ROUTE, "internal_error")
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*codes, *always)):
        by_status.setdefault(ERROR_KINDS[code].status, []).append(f"`{code}`: {ERROR_KINDS[code].when}.")
    documents: dict[int | str, dict[str, Any]] = {}
    for status, lines in sorted(by_status.items()):
        documents[status] = {"model": shape.model, "description": f"{HTTPStatus(status).phrase}. " + " ".join(lines)}
        if status in (429, 503):
            documents[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
        if status == 401:
            documents[status]["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return documents


def to_api_error(error: ValidationError | RequestValidationError) -> ApiError:
    """The first complaint of pydantic, with the path of its field."""
    first: ErrorDetails = error.errors()[0]
    by_fastapi = isinstance(error, RequestValidationError)  # which puts "body" or "query" in front
    path = ".".join(map(str, first["loc"][1:] if by_fastapi else first["loc"]))
    return ApiError("invalid_request", _validation_message(first), path[:MAX_PARAM_CHARACTERS] or None)


def _validation_message(first: ErrorDetails) -> str:
    match first["type"]:
        case "missing":
            return "This field is missing."
        case "extra_forbidden":
            return _unknown_field(str(first["loc"][-1]))
        case _:
            return first["msg"].removeprefix("Value error, ").rstrip(".") + "."


# Fields that tell whose client it is that was given the wrong address.
_FIELDS_OF_OTHERS = {
    "prompt_name": "Text Embeddings Inference, whose clients find its shapes under /tei, as /tei/embed",
    "truncation_direction": "Text Embeddings Inference, whose clients find its shapes under /tei, as /tei/embed",
    "input": "OpenAI, whose clients call /v1/embeddings",
    "input_type": "Cohere, whose clients call /v2/embed",
    "embedding_types": "Cohere, whose clients call /v2/embed",
}


def _unknown_field(name: str) -> str:
    if name in _FIELDS_OF_OTHERS:
        return f"There is no such field here; it is one of {_FIELDS_OF_OTHERS[name]}."
    return "There is no such field; see /docs for the ones there are."


async def handle_api_error(request: Request, error: Exception) -> Response:
    """Exception handler of what the service refuses."""
    assert isinstance(error, ApiError)
    request.state.context.error_code = error.code
    return ErrorResponse(error)


async def handle_validation_error(request: Request, error: Exception) -> Response:
    """Exception handler of what FastAPI refuses: parameters of a path or a query."""
    assert isinstance(error, RequestValidationError)
    return await handle_api_error(request, to_api_error(error))


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler of what the router refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    code = _CODE_OF_STATUS.get(error.status_code, "internal_error" if error.status_code >= 500 else "invalid_request")
    api_error = ApiError(code, _router_message(code, request))
    request.state.context.error_code = code
    return ErrorResponse(api_error, error.headers)


def _router_message(code: str, request: Request) -> str:
    root_path: str = request.app.state.service.settings.root_path
    if code == "not_found" and root_path and f"{request.scope['path']}/".startswith(f"{root_path}/"):
        return (
            f"The proxy in front has to take {root_path} (SIGHTWORD_ROOT_PATH) off the path; here it still begins so."
        )
    return _ROUTER_MESSAGES.get(code, "The request cannot be read.")


_ROUTER_MESSAGES = {
    "not_found": "There is nothing at this path; /docs lists what there is.",
    "method_not_allowed": "This path does not take this method; the Allow header names those it takes.",
    "internal_error": "The service failed; try again, and if it persists tell the operator the x-request-id.",
}


def internal_error() -> ApiError:
    """The error of a fault in the service; says nothing about the cause."""
    return ApiError("internal_error", _ROUTER_MESSAGES["internal_error"])
