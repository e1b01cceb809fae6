"""Vectors as answers: reduced, normalised, encoded, serialized. Numbers stay in numpy until orjson prints them."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from numpy.typing import NDArray

from model.bundle import Bundle
from service.errors import ApiError
from service.inference.shared_resources import SharedResources
from service.request_context import RequestContext
from service.schema.requests import EmbedOptions
from service.thread_pool import INLINE_WRITTEN_NUMBERS

NPY = "application/x-npy"
RAW = "application/octet-stream"
JSON_ONLY = ("", "*/*", "application/json")  # what nearly everybody accepts
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,8})?|1(?:\.0{0,8})?", re.ASCII)  # RFC 9110 has three places
Matrix = NDArray[np.float32]


def json_response(content: object) -> Response:
    """JSON of what may hold numpy arrays and numbers."""
    return _JsonResponse(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))


class _JsonResponse(Response):
    """Starlette's, whose headers are not put together from text each time."""

    def __init__(self, body: bytes) -> None:
        self.status_code, self.background, self.body = 200, None, body
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]


async def serialize_rows(rows: Callable[[], Iterable[object]], numbers: int, shared: SharedResources) -> list[Any]:
    """The rows, ready for `json_response`: as JSON already where that is much. `numbers` is how many they hold."""
    if numbers <= INLINE_WRITTEN_NUMBERS:
        return list(rows())
    return await shared.pool.run_in_thread(lambda: rows_to_json(rows()))


def rows_to_json(rows: Iterable[object]) -> list[orjson.Fragment]:
    """The rows as JSON: one by one, because writing holds up every other thread."""
    return [orjson.Fragment(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)) for row in rows]


def check_dimensions(
    dimensions: int | None, bundle: Bundle, context: RequestContext, param: str = "dimensions"
) -> None:
    """Raise `invalid_request` for more dimensions than the model has.

    For a number that it was not trained for, where that is known, the answer will say which it was.
    """
    if dimensions is None:
        return
    if dimensions > bundle.dimensions:
        message = f"This model's vectors have {bundle.dimensions} dimensions; ask for at most so many."
        raise ApiError("invalid_request", message, param)
    trained = bundle.manifest.matryoshka_dimensions
    if trained and dimensions not in trained:
        context.trained_dimensions = trained


def reduce_dimensions(vectors: Matrix, dimensions: int | None, normalize: bool) -> Matrix:
    """Keep the first components: [items, dim] -> [items, dimensions], L2-normalised again if `normalize`."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    shorter = np.ascontiguousarray(vectors[:, :dimensions])
    if not normalize:
        return shorter
    lengths = np.linalg.norm(shorter, axis=1, keepdims=True)
    np.divide(shorter, lengths, out=shorter, where=lengths > 0)
    return shorter


def combine(vectors: Matrix, counts: Sequence[int]) -> Matrix:
    """The normalised mean of each run of `counts` rows: [parts, dim] -> [len(counts), dim], of unit length."""
    if len(counts) == len(vectors):
        return vectors
    sums: Matrix = np.add.reduceat(vectors, np.cumsum([0, *counts[:-1]]), axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    np.divide(sums, lengths, out=sums, where=lengths > 0)
    return sums


def _quantize_int8(vectors: Matrix) -> NDArray[np.int8]:
    """[items, dim] -> int8 [items, dim]: each vector scaled so that its largest component is ±127."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
    scaled: NDArray[np.int8] = np.rint(vectors / largest * 127).astype(np.int8)
    return scaled


def _quantize_uint8(vectors: Matrix) -> NDArray[np.uint8]:
    """As int8, plus 128."""
    shifted: NDArray[np.uint8] = (_quantize_int8(vectors) + np.int16(128)).astype(np.uint8)
    return shifted


def _pack_bits(vectors: Matrix) -> NDArray[np.uint8]:
    return np.packbits(vectors > 0, axis=1)


ENCODERS: Mapping[str, Callable[[Matrix], Sequence[Any] | NDArray[Any]]] = {
    "float": lambda vectors: vectors,
    "base64": lambda vectors: [base64.b64encode(row).decode("ascii") for row in vectors.astype("<f4", copy=False)],
    "int8": _quantize_int8,
    "uint8": _quantize_uint8,
    "binary": lambda vectors: (_pack_bits(vectors) ^ 0x80).view(np.int8),
    "ubinary": _pack_bits,
}


def negotiate_binary_type(accept: str, options: EmbedOptions) -> str | None:
    """The binary media type that an Accept header prefers to JSON, or None.

    Raises `invalid_request` for options that a plain float32 matrix has no place for.
    """
    if accept in JSON_ONLY:
        return None
    weights = _parse_accept(accept)
    media_type = max((NPY, RAW), key=lambda name: weights.get(name, 0.0))
    if not weights.get(media_type, 0.0) or weights[media_type] < weights.get("application/json", 0.0):
        return None
    if options.on_error == "item":
        raise ApiError(
            "invalid_request", f'{media_type} has no place for the errors of "item"; accept JSON.', "on_error"
        )
    if options.encoding_format != "float":
        raise ApiError("invalid_request", f"{media_type} holds float32 only; leave this out.", "encoding_format")
    return media_type


def _parse_accept(accept: str) -> dict[str, float]:
    """Quality values by media type, 0 (never) to 1 (RFC 9110, 12.4.2). Raises `invalid_request`."""
    weights: dict[str, float] = {}
    for part in accept.split(","):
        media_type, *parameters = (text.strip().lower() for text in part.split(";"))
        weight = next((text.removeprefix("q=") for text in parameters if text.startswith("q=")), "1")
        if not _WEIGHT.fullmatch(weight):
            raise ApiError("invalid_request", "A weight in this header, q=..., is a number from 0 to 1.", "accept")
        weights[media_type] = max(float(weight), weights.get(media_type, 0.0))
    return weights


def binary_response(vectors: Matrix, media_type: str) -> Response:
    """One little-endian float32 array, such as [items, dimensions], with or without the header of .npy."""
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    if media_type == RAW:
        return Response(rows.tobytes(), media_type=RAW)
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    return Response(file.getvalue(), media_type=NPY)
