"""Writes WebDataset shards: tar files of `KEY.jpg` and `KEY.json`, the same bytes for the same samples."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from PIL import Image

from model.data.files import VECTOR_SUFFIX
from model.files import WriteError, write_atomically
from model.images.geometry import apply_orientation
from model.images.preprocessing import ImageError, eight_bit, open_header, orientation
from training.data.decoded_image import is_transparent
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


@dataclass(frozen=True, slots=True)
class ShardSample:
    """An encoded image, the suffix of its name, what its JSON holds, and the stored vectors of a teacher as .npz."""

    suffix: str
    image: bytes
    record: dict[str, Any]
    vectors: bytes | None = None


class ShardWriter:
    """Writes `STEM-000000.tar` and on into a folder, `size` samples each; a shard appears whole or not at all."""

    def __init__(self, folder: Path, stem: str, size: int) -> None:
        self.written: list[Path] = []
        self.samples = 0
        self._folder, self._stem, self._size = folder, stem, size

    def write(self, samples: Iterable[ShardSample]) -> None:
        """Write all samples; the key of each is its number.

        Raises ShardError where the disk is full, OSError otherwise; the shards before are whole, and no half one stays.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        rest = iter(samples)
        try:
            for first in rest:
                self._write_shard(chain([first], islice(rest, self._size - 1)))
        except WriteError as error:
            if error.errno not in DISK_FULL:
                raise
            raise ShardError(
                f"{self._folder}: no room for shard {len(self.written)} ({os.strerror(error.errno)}). "
                f"{len(self.written)} shards are whole and were kept; make room, and give the same command again with "
                "--overwrite"
            ) from error

    def _write_shard(self, samples: Iterable[ShardSample]) -> None:
        shard = self._folder / f"{self._stem}-{len(self.written):06d}.tar"
        with (
            write_atomically(shard) as draft,
            draft.open("wb") as file,
            tarfile.TarFile(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive,
        ):
            for sample in samples:
                key = f"{self.samples:08d}"
                _add(archive, f"{key}.{sample.suffix}", sample.image)
                record = json.dumps(sample.record, ensure_ascii=False)
                _add(archive, f"{key}.json", record.encode(errors="replace"))
                if sample.vectors is not None:
                    _add(archive, f"{key}.{VECTOR_SUFFIX}", sample.vectors)
                self.samples += 1
        self.written.append(shard)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
