"""JSON that a client sent, also where a single value in it cannot be used: that is for the one who reads the value."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from service.errors import ApiError

INTEGER_DIGITS = 20  # longer ones are read as floating-point numbers, which takes no time, as orjson does


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
        return json.loads(body.decode(), parse_int=_integer, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        why = f"it is not UTF-8 at byte {error.start}"
    except (ValueError, RecursionError):
        pass
    raise ApiError("invalid_request", f"The body is not valid JSON: {why}.")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= INTEGER_DIGITS else float(digits)


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON
