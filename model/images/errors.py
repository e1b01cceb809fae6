"""What may be wrong with an image."""

from __future__ import annotations

from typing import Literal


class ImageError(ValueError):
    """A picture that cannot be used; `code` is the HTTP contract's, the message says what to change."""

    def __init__(self, code: Literal["invalid_image", "image_too_large"], message: str) -> None:
        super().__init__(message)
        self.code = code


class TruncatedFileError(OSError):
    """The file lacks its end."""


class TooManyPiecesError(OSError):
    """The file consists of too many pieces."""
