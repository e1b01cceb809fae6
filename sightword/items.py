"""Items: what may be embedded, and how each is sent.

A `str` is a text. A picture is a `Path`, `bytes` (an encoded file), a Pillow image, an array [height, width, 3] of
uint8, or an `Image` of any of these or of a URL.
"""

from __future__ import annotations

import binascii
import io
import json
import os
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from sightword.errors import InvalidImageError, InvalidRequestError

# Written without loss as PNG, which keeps palette, alpha and 16 bits as they are; the others as TIFF.
_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")
_TIFF_MODES = ("CMYK", "YCbCr", "LAB", "I", "F")
_ORIENTATION = 0x0112
_NO_TEXT = re.compile(r"https?://\S+|data:image/\S+|\S+\.(?:jpe?g|png|webp|gif|bmp|tiff?)", re.IGNORECASE)

LOOKS_LIKE_A_PICTURE = (
    "a string that names a picture is embedded as a text, as all strings are: for the picture write Path(...) or "
    "sightword.Image(url=...)"
)


class PillowImage(Protocol):
    """What is used of one, so that types are complete without Pillow."""

    @property
    def mode(self) -> str:
        """Of its pixels."""

    def getexif(self) -> Any:
        """Read its EXIF."""

    def convert(self, mode: str) -> Any:
        """Give it in another mode."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write it."""


class Image:
    """A picture: a path, the bytes of a file, a Pillow image, an array [height, width, 3] of uint8, or a URL.

    `Image("cat.jpg")` is the file, where the string alone would be a text. `Image(url=...)` is fetched by the service,
    from hosts that its operator allowed.
    """

    __slots__ = ("source", "url")

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | PillowImage | npt.NDArray[np.uint8] | None = None,
        *,
        url: str | None = None,
    ) -> None:
        if (source is None) == (url is None):
            raise TypeError("an Image has one source, or a url")
        self.source: Any = Path(source) if isinstance(source, str) else source
        self.url = url

    def __repr__(self) -> str:
        return f"Image(url={self.url!r})" if self.url is not None else f"Image({type(self.source).__name__})"


Item: TypeAlias = Union[str, "os.PathLike[str]", bytes, Image, PillowImage, npt.NDArray[np.uint8]]
Items: TypeAlias = Item | Iterable[Item]


@dataclass(frozen=True, slots=True)
class Url:
    """Where the service is to fetch a picture."""

    url: str


Content: TypeAlias = str | bytes | Url  # a text, an encoded picture, or a URL


def is_item(value: Any) -> bool:
    """Whether it is one item, and not a list of them."""
    if isinstance(value, np.ndarray):
        return value.ndim == 3
    return isinstance(value, str | bytes | bytearray | memoryview | os.PathLike | Image) or _is_pillow(value)


def listed(items: Any) -> Iterable[Any]:
    """The items; of one alone, a list."""
    if is_item(items):
        return [items]
    if isinstance(items, dict) or not isinstance(items, Iterable):
        raise TypeError(f"items are a list of texts and pictures, not {type(items).__name__}")
    return items


def content_of(item: Any, param: str, *, png_level: int = 1) -> Content:
    """What is sent of an item. Raises InvalidImageError for a file that cannot be read, TypeError for what is none."""
    if isinstance(item, str):
        if _NO_TEXT.fullmatch(item):
            warnings.warn(LOOKS_LIKE_A_PICTURE, stacklevel=2)
        return item
    if isinstance(item, Image):
        return Url(item.url) if item.url is not None else content_of(item.source, param, png_level=png_level)
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, os.PathLike):
        return _read(Path(item), param)
    if isinstance(item, np.ndarray):
        return _png(item, png_level)
    if _is_pillow(item):
        try:
            return _save(item, png_level)
        except (OSError, ValueError, SyntaxError) as error:  # it may be read only now
            raise InvalidImageError(f"This Pillow image cannot be read: {error}.", param=param) from error
    raise TypeError(
        f"{param} is a {type(item).__name__}: an item is a str (a text), or a picture as Path, bytes, Pillow image, "
        "array [height, width, 3] of uint8 or sightword.Image"
    )


def to_json(content: Content) -> bytes:
    """An item as the service reads it."""
    if isinstance(content, str):
        return json.dumps(content).encode()
    if isinstance(content, Url):
        if "://" not in content.url:
            raise InvalidRequestError(f"{content.url[:80]!r} is no URL; of a file, give the path: Image(path).")
        return b'{"image":' + json.dumps(content.url).encode() + b"}"
    return b'{"image":"' + binascii.b2a_base64(content, newline=False) + b'"}'


def _read(path: Path, param: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidImageError(f"{path} cannot be read: {error.strerror}", param=param) from error


def _is_pillow(value: Any) -> bool:
    pillow = sys.modules.get("PIL.Image")  # where it is not imported, nothing can be an image of it
    return pillow is not None and isinstance(value, pillow.Image)


def _save(image: PillowImage, level: int) -> bytes:
    """Without loss, and with its orientation: as the file it came from."""
    if image.mode not in (*_PNG_MODES, *_TIFF_MODES):
        image = image.convert({"La": "LA", "PA": "RGBA", "RGBa": "RGBA"}.get(image.mode, "RGB"))
    file = io.BytesIO()
    exif = image.getexif()
    options: dict[str, Any] = {"exif": exif} if _ORIENTATION in exif else {}
    if image.mode in _PNG_MODES:
        image.save(file, "PNG", compress_level=level, **options)
    else:
        image.save(file, "TIFF", **options)
    return file.getvalue()


def _png(pixels: npt.NDArray[Any], level: int) -> bytes:
    """[height, width, 3] of uint8 as PNG."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise TypeError(
            f"an array of a picture is uint8 [height, width, 3], RGB from 0 to 255, not {pixels.dtype} "
            f"{list(pixels.shape)}"
        )
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, 3 * width)
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), level)),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
