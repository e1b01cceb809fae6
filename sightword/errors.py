"""What may go wrong, by class: what the service answers, and what happens on the way to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

Params: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]


class SightwordError(Exception):
    """Base of all of them; the message says what to change.

    `code` is the service's word for it, `status` that of its answer, `param` the field it is about (`inputs.3.image`,
    counted in the list that the caller gave), `request_id` what the operator finds it by.
    """

    code: str = "error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.request_id = message, param, status, request_id
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        where = f"{self.param}: " if self.param else ""
        return where + self.message + (f" (request {self.request_id})" if self.request_id else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.param, self.code, self.status, self.request_id)


def _rebuild(
    kind: type[SightwordError],
    message: str,
    param: str | None,
    code: str,
    status: int | None,
    request_id: str | None,
) -> SightwordError:
    return kind(message, param=param, code=code, status=status, request_id=request_id)


class RefusedError(SightwordError):
    """The service does not do this: what is asked has to change."""


class InvalidRequestError(RefusedError):
    """A wrong type, a missing or empty field."""

    code = "invalid_request"


class TextTooLongError(RefusedError):
    """A text longer than the context of the model, and `truncate` is not set."""

    code = "text_too_long"


class UnknownTextError(RefusedError):
    """A text that is no category of a model which knows these by name only."""

    code = "unknown_text"


class InvalidTemplateError(RefusedError):
    """A template without exactly one `{}`."""

    code = "invalid_template"


class TooManyInputsError(RefusedError):
    """Too many items, labels or templates."""

    code = "too_many_inputs"


class InvalidImageError(RefusedError):
    """Not an accepted format, truncated or corrupt."""

    code = "invalid_image"


class ImageTooLargeError(RefusedError):
    """More pixels than the limit."""

    code = "image_too_large"


class BodyTooLargeError(RefusedError):
    """One item alone is over the limit of bytes."""

    code = "body_too_large"


class UrlNotAllowedError(RefusedError):
    """The service fetches nothing from there."""

    code = "url_not_allowed"


class UrlFetchFailedError(SightwordError):
    """The service could not fetch a URL."""

    code = "url_fetch_failed"


class UnsupportedModalityError(RefusedError):
    """What the model does not read, or of a picture one vector where it has several."""

    code = "unsupported_modality"


class ModelNotFoundError(RefusedError):
    """A model that is not there."""

    code = "model_not_found"


class LabelSetNotFoundError(RefusedError):
    """A label set that is not stored."""

    code = "label_set_not_found"


class InvalidApiKeyError(RefusedError):
    """No key or a wrong key."""

    code = "invalid_api_key"


class OverloadedError(SightwordError):
    """The queue of the service was full for as long as was waited."""

    code = "overloaded"


class UnavailableError(SightwordError):
    """The service is starting or stopping, and was so for as long as was waited."""

    code = "unavailable"


class DeadlineExceededError(SightwordError):
    """Not done within the time of the service or of this client."""

    code = "deadline_exceeded"


class InferenceError(SightwordError):
    """The model failed on this item."""

    code = "inference_error"


class InternalError(SightwordError):
    """A fault of the service."""

    code = "internal_error"


class ConnectionFailedError(SightwordError):
    """Nothing answers there, or the connection broke."""

    code = "connection_failed"


class UnexpectedAnswerError(SightwordError):
    """What answers there is no such service."""

    code = "unexpected_answer"


class ModelChangedError(SightwordError):
    """The service took another model while it was at this list: vectors of two models must not be compared."""

    code = "model_changed"


class MissingDependencyError(SightwordError, ImportError):
    """A package is not installed; the message says how to get it."""

    code = "missing_dependency"


class ModelError(SightwordError):
    """A model that cannot be opened here."""

    code = "model_error"


class _ByCode:
    classes: ClassVar[dict[str, type[SightwordError]]] = {
        kind.code: kind
        for kind in (
            InvalidRequestError, TextTooLongError, UnknownTextError, InvalidTemplateError, TooManyInputsError,
            InvalidImageError, ImageTooLargeError, BodyTooLargeError, UrlNotAllowedError, UrlFetchFailedError,
            UnsupportedModalityError, ModelNotFoundError, LabelSetNotFoundError, InvalidApiKeyError, OverloadedError,
            UnavailableError, DeadlineExceededError, InferenceError, InternalError,
        )
    }  # fmt: skip


def from_detail(
    detail: Any, *, status: int | None = None, request_id: str | None = None, params: Params = ()
) -> SightwordError:
    """The error of an answer's `error` object; `params` are the caller's names of the inputs of that request.

    Of a request with several lists they are those of each, by its name.
    """
    code, message, param = (detail.get(name) for name in ("code", "message", "param"))
    kind = _ByCode.classes.get(str(code))
    if kind is None:
        kind = RefusedError if status is not None and status < 500 else SightwordError
    param = _callers_name(param, params) if isinstance(param, str) else None
    return kind(str(message), param=param, code=str(code), status=status, request_id=request_id)


def from_answer(status: int, headers: Mapping[str, str], content: bytes, *, params: Params = ()) -> SightwordError:
    """The error of an answer from 300 up."""
    request_id = headers.get("x-request-id")
    try:
        detail = json.loads(content)["error"]
        return from_detail(detail, status=status, request_id=request_id, params=params)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    if 300 <= status < 400:
        return UnexpectedAnswerError(
            f"The answer leads elsewhere ({status}); set the URL of the service.", status=status
        )
    kind = UnavailableError if status in (502, 503) else OverloadedError if status == 429 else UnexpectedAnswerError
    start = content[:200].decode("utf-8", "replace").strip()
    return kind(f"{status} without an error of the service, perhaps of a proxy: {start!r}", status=status)


def _callers_name(param: str, params: Params) -> str:
    """`inputs.3.image` of a request -> as the caller knows it, such as `candidates.67.image`."""
    field, _, rest = param.partition(".")
    index, *path = rest.split(".")
    names = (params if isinstance(params, Mapping) else {"inputs": params}).get(field, ())
    if not index.isdecimal() or int(index) >= len(names):
        return param
    return ".".join([names[int(index)], *path])
