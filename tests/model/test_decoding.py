"""Decoding: accepted formats, every kind of damage, limits told from headers, scaled JPEGs, threads."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from model.config import Preprocessing
from model.images import preprocessing
from model.images.preprocessing import ACCEPTED_FORMATS, ImageError, decode, load_image, open_header, preprocess
from tests.model.pictures import DEFAULT, REFERENCE, SMALL, Pixels, encoded, half_transparent, in_mode, openai_order


@pytest.mark.parametrize("format_name", ACCEPTED_FORMATS)
def test_every_accepted_format(cat: Image.Image, format_name: str) -> None:
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(format_name, {})
    pixels = load_image(encoded(cat, format_name, **options), DEFAULT)
    assert np.abs(pixels - preprocess(cat, DEFAULT).astype(float)).mean() < (12 if format_name == "GIF" else 1.5)


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_counts(cat: Image.Image, format_name: str) -> None:
    black = Image.new("RGB", cat.size)
    data = encoded(cat, format_name, save_all=True, append_images=[black, black])
    assert np.abs(load_image(data, SMALL) - preprocess(cat, SMALL).astype(float)).mean() < 12


def rejection(data: bytes, **options: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_image(data, SMALL, **options)
    message = str(caught.value)
    assert not any(word in message for word in ("PIL", "0x", "Error", "BytesIO", "Traceback")), message
    assert ":" in message
    return caught.value


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"not a picture at all, but long enough to look at", b"<svg/>", b"%PDF-1.7\n"]
)
def test_what_is_no_picture(data: bytes) -> None:
    error = rejection(data)
    assert error.code == "invalid_image"
    assert all(name in str(error) for name in ACCEPTED_FORMATS)


@pytest.mark.parametrize("format_name", ["PPM", "TGA", "ICO", "PCX", "JPEG2000", "PDF", "EPS"])
def test_formats_that_are_not_accepted(cat: Image.Image, format_name: str) -> None:
    assert rejection(encoded(cat, format_name)).code == "invalid_image"


@pytest.mark.parametrize("format_name", ACCEPTED_FORMATS)
def test_truncated_files_are_refused_or_whole(cat: Image.Image, format_name: str) -> None:
    data = encoded(cat.resize((90, 60)), format_name)
    whole = load_image(data, SMALL)
    lengths = range(0, len(data), max(1, len(data) // 150))
    outcomes = [load_or_code(data[:length]) for length in lengths]
    # What may be missing without loss: padding and end marks.
    assert all(o == "invalid_image" if isinstance(o, str) else np.array_equal(o, whole) for o in outcomes)
    assert sum(isinstance(o, str) for o in outcomes) >= 140


def load_or_code(data: bytes) -> Pixels | str:
    try:
        return load_image(data, SMALL, max_pixels=1_000_000)
    except ImageError as error:
        return error.code


def damaged(data: bytes, draw: np.random.Generator) -> bytes:
    spoilt = bytearray(data)
    for _ in range(int(draw.integers(1, 12))):
        reach = len(spoilt) if draw.random() < 0.5 else min(len(spoilt), 100)
        spoilt[int(draw.integers(reach))] = int(draw.integers(256))
    return bytes(spoilt)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_name", ACCEPTED_FORMATS)
def test_damaged_files_never_raise_anything_else(cat: Image.Image, format_name: str) -> None:
    draw = np.random.default_rng(7)
    picture = cat.resize((60, 40))
    files = [encoded(picture, format_name)]
    if format_name in ("PNG", "GIF", "TIFF", "BMP"):
        files.append(encoded(picture.quantize(16), format_name))
    outcomes = [load_or_code(damaged(files[int(draw.integers(len(files)))], draw)) for _ in range(400)]
    assert {"invalid_image"} <= {o for o in outcomes if isinstance(o, str)} <= {"invalid_image", "image_too_large"}
    assert all(o.shape == (32, 32, 3) for o in outcomes if not isinstance(o, str))


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels begin."""
    data = encoded(Image.new("L", (1, 1)), "PNG")
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    checksum = zlib.crc32(header).to_bytes(4, "big")
    return data[:8] + (13).to_bytes(4, "big") + header + checksum + (1000).to_bytes(4, "big") + b"IDAT"


def test_the_pixel_limit_is_read_from_the_header() -> None:
    error = rejection(png_header(12_000, 5_000))
    assert error.code == "image_too_large"
    assert "12,000 x 5,000" in str(error)
    assert "50,000,000" in str(error)
    # Beyond Pillow's own limit, where a decompression bomb is suspected.
    assert rejection(png_header(60_000, 60_000)).code == "image_too_large"
    assert rejection(png_header(60_000, 60_000), max_pixels=10**10).code == "image_too_large"
    assert rejection(png_header(0, 5)).code == "invalid_image"
    assert rejection(png_header(9_000, 5_000)).code == "invalid_image"


def test_the_pixel_limit_is_inclusive(cat: Image.Image) -> None:
    data = encoded(cat, "PNG")
    assert load_image(data, SMALL, max_pixels=451 * 300).shape == (32, 32, 3)
    assert rejection(data, max_pixels=451 * 300 - 1).code == "image_too_large"


def test_the_pixel_limit_counts_the_stored_size_of_a_jpeg(cat: Image.Image) -> None:
    data = encoded(cat.resize((1600, 1200)), "JPEG")
    assert rejection(data, max_pixels=1600 * 1200 - 1).code == "image_too_large"


def test_pictures_without_pixels_and_with_broken_tables() -> None:
    with pytest.raises(ImageError, match="no pixels") as empty:
        preprocess(Image.new("RGB", (0, 5)), SMALL)
    assert empty.value.code == "invalid_image"
    palette = Image.new("P", (4, 4))
    palette.info["transparency"] = "nonsense"
    with pytest.raises(ImageError, match="RGB") as broken:
        preprocess(palette, SMALL)
    assert broken.value.code == "invalid_image"


@pytest.mark.parametrize(
    ("size", "draft_size", "decoded"),
    [
        ((640, 480), 224, (640, 480)),
        ((1792, 896), 224, (896, 448)),
        ((1792, 895), 224, (1792, 895)),
        ((1795, 897), 224, (898, 449)),
        ((3468, 4624), 96, (434, 578)),
        ((4032, 3024), 224, (1008, 756)),
        ((3584, 3584), 224, (448, 448)),
        ((3584, 3584), None, (3584, 3584)),
        ((64, 64), 1, (8, 8)),
        ((4000, 8), 224, (4000, 8)),
    ],
)
def test_draft_leaves_at_least_twice_the_size(
    size: tuple[int, int], draft_size: int | None, decoded: tuple[int, int]
) -> None:
    data = encoded(Image.new("RGB", size, "teal"), "JPEG")
    opened = open_header(data, draft_size=draft_size)
    assert opened.size == decoded
    opened.load()
    assert opened.take().size == decoded


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_draft_cannot_be_seen(temple: Image.Image, mode: str, subsampling: int) -> None:
    large = Image.new("RGB", (2560, 1708))
    for x in range(0, 2560, 640):
        for y in range(0, 1708, 427):
            large.paste(temple, (x, y))
    data = encoded(large.convert(mode), "JPEG", quality=90, subsampling=subsampling)
    exact = preprocess(decode(data), DEFAULT).astype(float)
    drafted = load_image(data, DEFAULT).astype(float)
    assert 0 < np.abs(drafted - exact).mean() < 0.5
    assert np.corrcoef(drafted.ravel(), exact.ravel())[0, 1] > 0.9999
    assert np.array_equal(load_image(data, REFERENCE), preprocess(decode(data), REFERENCE))


@pytest.mark.parametrize("size", [(263, 257), (641, 265), (258, 516)])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_draft_of_sides_not_divided_evenly(
    cat: Image.Image, size: tuple[int, int], orientation: int, mode: Any
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(cat.resize(size), "JPEG", quality=95, exif=exif)
    config = Preprocessing(size=16, resize_mode=mode)
    opened = open_header(data, draft_size=config.draft_size)
    assert opened.size == tuple(-(-side // 8) for side in size)
    # Without its box, a last pixel that is mostly beyond the edge would stretch the picture: at least 3.7.
    drafted, exact = load_image(data, config).astype(float), preprocess(decode(data), config)
    assert 0 < np.abs(drafted - exact).mean() < 1.2


def test_small_jpegs_are_decoded_exactly(temple: Image.Image) -> None:
    data = encoded(temple, "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(load_image(data, DEFAULT), openai_order(image, 224, Image.Resampling.BICUBIC))


def test_many_threads_at_once(cat: Image.Image, temple: Image.Image) -> None:
    files = [encoded(image, name) for image in (cat, temple) for name in ACCEPTED_FORMATS]
    files += [encoded(cat.quantize(32), "PNG", transparency=3), encoded(in_mode(cat, "I;16"), "PNG"), b"broken"]

    alone = [load_or_code(data) for data in files]
    started = threading.Barrier(8)
    with ThreadPoolExecutor(8, initializer=started.wait) as pool:
        together = list(pool.map(load_or_code, files * 8))
    assert all(np.array_equal(a, b) for a, b in zip(together, alone * 8, strict=True))


def test_input_pictures_are_left_alone(cat: Image.Image) -> None:
    for image in (half_transparent("P by table"), half_transparent("RGBA"), cat.convert("F")):
        before = (image.mode, image.size, dict(image.info), image.tobytes())
        first = preprocess(image, SMALL)
        assert (image.mode, image.size, dict(image.info), image.tobytes()) == before
        assert np.array_equal(preprocess(image, SMALL), first)


def test_importing_changes_nothing_in_pillow_and_loads_only_our_decoders() -> None:
    program = """
from PIL import Image, ImageFile
before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
from model.images.preprocessing import ImageError, decode
try:
    decode(b"not a picture")
except ImageError:
    pass
assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before
print(*sorted(Image.OPEN))
"""
    root = Path(preprocessing.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert not {"EPS", "PSD", "ICNS", "FPX", "SGI", "AVIF", "JPEG2000"} & set(done.stdout.split())
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
