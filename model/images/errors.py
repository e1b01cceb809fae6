"""What may be wrong with an image."""

from __future__ import annotations

from typing import Literal


class ImageError(ValueError):
    """A picture that cannot be used; `code` is the HTTP contract's, the message says what to change."""

    def __init__(self, code: Literal["invalid_image", "image_too_large"], message: str) -> None:
        super().__init__(message)
        self.code = code


class TruncatedFileError(OSError):
    """An image file that ends too early."""


class TooManyPiecesError(OSError):
    """An image file of so many segments, chunks or blocks that reading it would take long."""
