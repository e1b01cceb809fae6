"""From items to what the towers take: token ids or pixels, with the errors of the service."""

from __future__ import annotations

import re
import threading
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.images.errors import ImageError
from model.images.preprocessing import MAX_PIXELS, open_header, preprocess
from model.tokenizers.clip import READ_WHOLE, TokenizerError, UnknownTextError
from sightword.errors import (
    ImageTooLargeError,
    InferenceError,
    InvalidImageError,
    InvalidRequestError,
    SightwordError,
    TextTooLongError,
    UrlNotAllowedError,
)
from sightword.errors import UnknownTextError as NoCategoryError
from sightword.items import Url, content_of

MAX_TEXT_CHARACTERS = 10_000  # that are read, as the service does
LARGE_PIXELS = 9_000_000  # larger pictures are decoded one at a time
_SURROGATE = re.compile("[\ud800-\udfff]")


class Ids(NamedTuple):
    """A text, as token ids."""

    ids: list[int]


class Pixels(NamedTuple):
    """A picture [size, size, 3], uint8."""

    pixels: npt.NDArray[np.uint8]


class Reader:
    """Reads items for one bundle, in any thread."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._large = bundle, threading.Lock()
        self.tokenizer = bundle.tokenizer()

    def read(self, item: Any, param: str, truncate: bool) -> Ids | Pixels | SightwordError:
        """What the tower of the item takes, or its error. Raises TypeError for what is no item."""
        try:
            content = content_of(item, param, png_level=0)
            if isinstance(content, str):
                return Ids(self.ids(content, param, truncate))
            if isinstance(content, Url):
                raise UrlNotAllowedError(
                    "Without a service nothing fetches URLs: read the picture, and give its bytes.", param=param
                )
            return Pixels(self._decode(content, param))
        except SightwordError as error:
            return error

    def ids(self, text: str, param: str, truncate: bool) -> list[int]:
        """Of a text. Raises InvalidRequestError, TextTooLongError, NoCategoryError, InferenceError."""
        check_text(text, param)
        head, limit = text.strip()[:MAX_TEXT_CHARACTERS], self._bundle.context_length
        try:
            [row] = self.tokenizer.encode([head], enough=limit)
        except UnknownTextError as error:
            message = str(error)
            raise NoCategoryError(f"{message[:1].upper()}{message[1:]}", param=param) from None
        except TokenizerError as error:
            raise InferenceError("The model's tokenizer failed on this text.", param=param) from error
        if len(row) > limit and not truncate:
            many = f"{len(row)} tokens" if len(head) <= READ_WHOLE else f"more than {limit} tokens"
            raise TextTooLongError(
                f"This text has {many}; the model reads {limit} tokens, start and end included: shorten it or give "
                "truncate=True.",
                param=param,
            )
        return self.tokenizer.truncate(row)

    def _decode(self, file: bytes, param: str) -> npt.NDArray[np.uint8]:
        config = self._bundle.preprocessing
        try:
            opened = open_header(file, MAX_PIXELS, config.draft_size)
            with self._large if opened.pixels > LARGE_PIXELS else nullcontext():
                opened.load()
                return preprocess(opened.take(), config, opened.box)
        except ImageError as error:
            kind = ImageTooLargeError if error.code == "image_too_large" else InvalidImageError
            text = str(error)
            raise kind(text[:1].upper() + text[1:].rstrip(".") + ".", param=f"{param}.image") from None


def check_text(text: str, param: str, what: str = "text") -> None:
    """Raise InvalidRequestError for an empty one, and for half of a character."""
    if not text or text.isspace():
        raise InvalidRequestError(f"This {what} is empty.", param=param)
    if not text.isascii() and _SURROGATE.search(text):
        raise InvalidRequestError(
            "This text holds half of a character: a surrogate such as \\ud800 stands only beside its other half.",
            param=param,
        )
