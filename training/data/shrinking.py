"""Picture files for shards: as they are, or made smaller."""

from __future__ import annotations

import io

from PIL import Image

from model.images.geometry import turn
from model.images.preprocessing import ImageError, eight_bit, open_header, orientation
from training.data.pictures import is_transparent

KEPT = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}  # formats that stay, and how shards call them
USUAL = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # modes that every reader takes; others have 16 or 32 bits
QUALITY = 92  # of JPEG, with colours at full resolution: no difference to the eye


def shard_picture(data: bytes, pixels: int | None, max_pixels: int) -> tuple[str, bytes]:
    """Suffix and bytes of a picture for a shard. Raises ImageError.

    A picture whose short side is longer than `pixels` is reduced to that; others keep their bytes where training reads
    their format.
    """
    opened = open_header(data, max_pixels)
    size = opened.size
    if pixels is not None and min(size) > pixels:
        opened = open_header(data, max_pixels, draft_size=pixels)
    opened.load()  # what is broken is found now
    image, box = opened.take(), opened.box
    kept = KEPT.get(image.format or "")
    if kept and image.mode in USUAL and (pixels is None or min(size) <= pixels):
        return kept, data
    try:
        image, box = turn(image, box, orientation(image))
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
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return "jpg", out.getvalue()
