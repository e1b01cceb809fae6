"""What /embed answers to `output: tokens`: several vectors of an item, as servers of late interaction give them.

Every item has a list of vectors, one of a text too, so that a client reads all of them alike.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import Response

from model.bundle import Bundle
from service.errors import ApiError
from service.schema.items import ImageItem, TextItem, UrlItem
from service.schema.requests import EmbedRequest
from service.web.responses import ENCODERS, Matrix, binary_response


def check_tokens(request: EmbedRequest, bundle: Bundle, media_type: str | None) -> None:
    """Raise `invalid_request` for what the vectors of a mixture model cannot be answered as.

    `media_type` is that of a matrix, if one was asked for.
    """
    if bundle.mixture is None:
        return
    if request.dimensions not in (None, bundle.dimensions):
        raise ApiError("invalid_request", "This model mixes whole vectors for each text; leave this out.", "dimensions")
    has_texts, has_images = (
        any(isinstance(item, kind) for item in request.inputs) for kind in (TextItem, ImageItem | UrlItem)
    )
    if media_type is not None and has_texts and has_images and bundle.mixture.tokens > 1:
        message = (
            f"{media_type} is one array, and of a picture there are {bundle.mixture.tokens} vectors, of a text one: "
            "send them in two requests, or accept JSON."
        )
        raise ApiError("invalid_request", message, "inputs")


def group_tokens(vectors: Matrix, tokens: Mapping[int, Matrix]) -> list[Matrix]:
    """Of each item its vectors [vectors, dimensions]: those in `tokens`, by index, or its row of `vectors`."""
    return [tokens.get(index, vectors[index : index + 1]) for index in range(len(vectors))]


def encode_groups(groups: Sequence[Matrix], encoding_format: str) -> list[Any]:
    """Of each item a list of its vectors in that format; as base64, all of them in one string, row by row."""
    if encoding_format == "base64":
        return [base64.b64encode(group.astype("<f4", copy=False).tobytes()).decode("ascii") for group in groups]
    return [ENCODERS[encoding_format](group) for group in groups]


def stacked_response(groups: Sequence[Matrix], media_type: str) -> Response:
    """One little-endian float32 array [items, vectors, dimensions]."""
    return binary_response(np.stack(groups), media_type)
