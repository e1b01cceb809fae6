"""How compatible APIs write their errors: beside our own object where that is possible, else as a string."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from service.errors import ApiError, ErrorDetail, ErrorShape, ErrorType


def sentence(error: ApiError) -> str:
    """The message, after the path of the field that it is about."""
    return f"{error.param}: {error.message}" if error.param else error.message


class ErrorWithMessage(BaseModel):
    """What OpenAI answers, and in `message` what clients of Cohere show, in `detail` those of Jina and Voyage."""

    error: ErrorDetail
    message: str = Field(description="the field and what is wrong with it")
    detail: str = Field(description="as `message`")


class ErrorLocation(BaseModel):
    """Where in the request what is wrong."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorWithLocations(BaseModel):
    """As OpenAI's, and in `detail` a list as FastAPI makes it: Infinity's generated client reads no other."""

    error: ErrorDetail
    message: str = Field(description="the field and what is wrong with it")
    detail: list[ErrorLocation]


class FlatError(BaseModel):
    """What TEI answers: clients that read `error` as a string fail on an object, and hide what it says."""

    error: str = Field(description="the field and what is wrong with it")
    error_type: ErrorType
    message: str = Field(description="as `error`")
    param: str | None
    code: str


def _with_message(error: ApiError) -> dict[str, Any]:
    return {"error": error.detail(), "message": sentence(error), "detail": sentence(error)}


def _with_locations(error: ApiError) -> dict[str, Any]:
    parts = error.param.split(".") if error.param else []
    location = ["body", *(int(part) if part.isdecimal() and part.isascii() else part for part in parts)]
    detail = {"loc": location, "msg": error.message, "type": error.code}
    return {"error": error.detail(), "message": sentence(error), "detail": [detail]}


def _flat(error: ApiError) -> dict[str, Any]:
    message = sentence(error)
    return {
        "error": message, "error_type": error.type, "message": message, "param": error.param, "code": error.code
    }  # fmt: skip


WITH_MESSAGE = ErrorShape(ErrorWithMessage, _with_message)
WITH_LOCATIONS = ErrorShape(ErrorWithLocations, _with_locations)
FLAT = ErrorShape(FlatError, _flat)
