"""Writes WebDataset shards: tar files of `KEY.jpg` and `KEY.json`, the same bytes for the same samples."""

from __future__ import annotations

import errno
import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from PIL import Image

from model.images.geometry import apply_orientation
from model.images.preprocessing import ImageError, eight_bit, open_header, orientation
from training.data.images import is_transparent
from training.data.shards import ShardError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

KEPT = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}  # formats that stay, and how shards call them
COMMON_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # that every reader takes; others have 16 or 32 bits
JPEG_QUALITY = 92  # with colours at full resolution: no difference to the eye


def shard_image(data: bytes, pixels: int | None, max_pixels: int) -> tuple[str, bytes]:
    """Suffix and bytes of an image for a shard. Raises ImageError.

    An image whose short side is longer than `pixels` is reduced to that; others keep their bytes where training reads
    their format.
    """
    opened = open_header(data, max_pixels)
    size = opened.size
    if pixels is not None and min(size) > pixels:
        opened = open_header(data, max_pixels, draft_size=pixels)
    opened.load()  # what is broken is found now
    image, box = opened.take(), opened.box
    kept = KEPT.get(image.format or "")
    if kept and image.mode in COMMON_MODES and (pixels is None or min(size) <= pixels):
        return kept, data
    try:
        image, box = apply_orientation(image, box, orientation(image))
        image = eight_bit(image)
        transparent = is_transparent(image)
        image = image.convert("RGBA" if transparent else "RGB")
        left, top, right, bottom = box or (0, 0, *image.size)
        if pixels is not None and min(size) > pixels:
            scale = pixels / min(right - left, bottom - top)
            smaller = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
            image = image.resize(smaller, Image.Resampling.LANCZOS, box=box)
    except Exception as error:  # broken palettes come to light only here, by several exceptions
        raise ImageError("invalid_image", f"its colours (mode {image.mode}) cannot be read") from error
    out = io.BytesIO()
    if transparent:
        image.save(out, "PNG", optimize=True)
        return "png", out.getvalue()
    image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "jpg", out.getvalue()


class ShardWriter:
    """Writes `STEM-000000.tar` and on into a folder, `size` samples each; a shard appears whole or not at all.

    Raises ShardError where the disk is full, and leaves no half shard.
    """

    def __init__(self, folder: Path, stem: str, size: int) -> None:
        self.written: list[Path] = []
        self.samples = 0
        self._folder, self._stem, self._size = folder, stem, size
        self._draft = folder / f"{stem}.partial"
        self._file: BinaryIO | None = None
        self._archive: tarfile.TarFile | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def add(self, suffix: str, image: bytes, record: dict[str, Any]) -> None:
        """Write a sample, `record` as its JSON; its key is its number."""
        key = f"{self.samples:08d}"
        try:
            if self._archive is None:
                self._file = self._draft.open("wb")
                self._archive = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)
            _add(self._archive, f"{key}.{suffix}", image)
            _add(self._archive, f"{key}.json", json.dumps(record, ensure_ascii=False).encode(errors="replace"))
            self.samples += 1
            if self.samples % self._size == 0:
                self._finish()
        except OSError as error:
            raise self._to_shard_error(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failed:
            raise self._to_shard_error(failed) from failed
        finally:
            if self._file is not None:
                with suppress(OSError):  # what it still holds may find no room either
                    self._file.close()
            self._draft.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._archive is None or self._file is None:
            return
        self._archive.close()
        self._file.close()
        shard = self._folder / f"{self._stem}-{len(self.written):06d}.tar"
        self._draft.replace(shard)
        self.written.append(shard)
        self._archive = self._file = None

    def _to_shard_error(self, error: OSError) -> Exception:
        """Of a full disk what to do; any other error as it is."""
        if error.errno not in DISK_FULL:
            return error
        return ShardError(
            f"{self._folder}: no room for shard {len(self.written)} ({error.strerror}). {len(self.written)} shards are "
            "whole and were kept; make room, and give the same command again with --overwrite"
        )


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
