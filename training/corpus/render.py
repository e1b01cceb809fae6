"""Renders a drawing to a square lossless WebP with transparency."""

import io
import re

import resvg_py
from PIL import Image, ImageChops

from training.corpus.shards import Drawing

SIZE = 128
# Rendered larger and reduced, so that a small drawing on a large page still fills the picture.
PAGE_SIZE = 512
MIN_DRAWING_PX = 24
MAX_SVG_BYTES = 1_500_000


def render(drawing: Drawing, size: int = SIZE) -> bytes | None:
    """WebP bytes of at most `size` x `size` pixels, or None where there is nothing to see."""
    if drawing.kind == "svg" and len(drawing.data) > MAX_SVG_BYTES:
        return None
    picture = _rasterise(drawing, size)
    if picture is not None and drawing.crop:
        picture = crop_to_drawing(picture)
    if picture is None or picture.getbbox() is None:
        return None
    return encode(fit(picture, size))


def _rasterise(drawing: Drawing, size: int) -> Image.Image | None:
    if drawing.kind == "raster":
        return Image.open(io.BytesIO(drawing.data)).convert("RGBA")
    width = PAGE_SIZE if drawing.crop else size
    text = with_namespace(drawing.data.decode("utf-8", "replace"))
    try:
        # No system fonts: the same pixels on every machine. Clip art that is mostly text loses it, and is no loss.
        # Sizes in millimetres come out as nothing without a resolution.
        png = resvg_py.svg_to_bytes(svg_string=text, width=width, dpi=96, skip_system_fonts=True)
    except ValueError:
        return None
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def with_namespace(svg: str) -> str:
    """Adds the namespace that some old files lack."""
    root = re.search(r"<svg\b[^>]*>", svg)
    if root is None or "xmlns=" in root[0] or "xmlns:svg=" in root[0]:
        return svg
    return svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def crop_to_drawing(picture: Image.Image) -> Image.Image | None:
    """Cuts the empty page away: transparent, or of one colour that all four corners share."""
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    right, bottom = picture.width - 1, picture.height - 1
    corners = {picture.getpixel(xy) for xy in ((0, 0), (right, 0), (0, bottom), (right, bottom))}
    # A see-through page was cut off above; only a painted one can hide here.
    if len(corners) == 1 and picture.getchannel("A").getextrema() == (255, 255):
        page = Image.new("RGB", picture.size, picture.convert("RGB").getpixel((0, 0)))
        inner = ImageChops.difference(picture.convert("RGB"), page).getbbox()
        if inner is None:
            return None
        picture = picture.crop(inner)
    return picture if max(picture.size) >= MIN_DRAWING_PX else None


def fit(picture: Image.Image, size: int) -> Image.Image:
    """The picture reduced to fit, in the middle of a transparent square."""
    scale = size / max(picture.size)
    if scale < 1:
        shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(shape, Image.Resampling.LANCZOS)
    side = max(picture.size)
    square = Image.new("RGBA", (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square


def encode(picture: Image.Image) -> bytes:
    """Lossless WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=4)
    return buffer.getvalue()
