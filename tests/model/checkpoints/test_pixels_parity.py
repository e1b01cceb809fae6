"""Files of odd sizes and modes through transformers' own image processors and through ours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from model.checkpoints import pixels
from model.checkpoints.checkpoint import Options
from model.config import Preprocessing
from model.images.preprocessing import load_image
from tests.model.pictures import SMALL, Pixels, difference, encoded, in_mode

SIZES = [(1, 1), (2, 90), (90, 2), (333, 217), (224, 224), (225, 224), (224, 227), (401, 403)]
FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "WEBP": {"lossless": True, "method": 0},
    "TIFF": {},
}
PROCESSORS = {
    "clip": CLIPImageProcessorPil(),
    "odd": CLIPImageProcessorPil(size={"shortest_edge": 65}, crop_size={"height": 65, "width": 65}, resample=2),
    "siglip": SiglipImageProcessorPil(size={"height": 96, "width": 96}),
}


def ours(processor: Any, **options: Any) -> Preprocessing:
    size = next(iter(processor.size[edge] for edge in ("shortest_edge", "height") if processor.size[edge]))
    return pixels.from_transformers(processor.to_dict(), size, Options(**options))


def theirs(processor: Any, data: bytes) -> Any:
    """What the original computes: float32 [size, size, 3]."""
    return np.asarray(processor(Image.open(io.BytesIO(data)))["pixel_values"][0]).transpose(1, 2, 0)


def normalised(picture: Pixels, config: Preprocessing) -> Any:
    return (picture.astype(np.float32) / 255 - np.float32(config.mean)) / np.float32(config.std)


def in_every_mode(picture: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    for mode in ("RGB", "L", "1", "P", "CMYK", "YCbCr"):
        yield mode, in_mode(picture, mode)
    clear = picture.copy()
    clear.putalpha(Image.linear_gradient("L").resize(picture.size))
    yield "RGBA", clear
    yield "LA", clear.convert("LA")
    for name, transparency in (("P by number", 3), ("P by table", bytes(range(0, 256, 4)))):
        palette = picture.quantize(64)
        palette.info["transparency"] = transparency
        yield name, palette
    keyed = picture.copy()
    keyed.info["transparency"] = keyed.getpixel((0, 0))
    yield "RGB by colour", keyed


def files(picture: Image.Image) -> Iterator[tuple[str, bytes]]:
    for mode, image in in_every_mode(picture):
        for name, options in FORMATS.items():
            try:
                yield f"{mode} {name} {image.size}", encoded(image, name, **options)
            except (OSError, ValueError):
                continue  # the format has no such mode


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_exact_pixels_are_those_of_transformers(cat: Image.Image, size: tuple[int, int]) -> None:
    cases = list(files(cat.resize(size)))
    assert len(cases) > 25
    for name, processor in PROCESSORS.items():
        config = ours(processor, exact_pixels=True)
        for case, data in cases:
            expected = theirs(processor, data)
            assert np.array_equal(normalised(load_image(data, config), config), expected), f"{name} {case}"


@pytest.mark.parametrize("size", [*SIZES, (640, 427), (3, 500), (1001, 1003)], ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_by_default_opaque_upright_pictures_are_the_same(cat: Image.Image, name: str, size: tuple[int, int]) -> None:
    data = encoded(cat.resize(size), "PNG")
    config = ours(PROCESSORS[name])
    assert np.array_equal(normalised(load_image(data, config), config), theirs(PROCESSORS[name], data))


def test_camera_pictures(temple: Image.Image) -> None:
    processor = PROCESSORS["clip"]
    data = encoded(temple.resize((4000, 3000)), "JPEG", quality=92)
    exact, default = (ours(processor, exact_pixels=value) for value in (True, False))
    expected = load_image(data, exact)
    assert np.array_equal(normalised(expected, exact), theirs(processor, data))
    # By default decoded at an eighth.
    reduced = load_image(data, default)
    assert 0 < difference(reduced, expected) <= 12
    assert np.abs(reduced - expected.astype(float)).mean() < 0.5


def test_orientation(cat: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(cat.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    processor = PROCESSORS["clip"]
    exact, default = (ours(processor, exact_pixels=value) for value in (True, False))
    # A processor that is given an opened picture leaves it as it is stored.
    assert np.array_equal(normalised(load_image(data, exact), exact), theirs(processor, data))
    upright = encoded(cat, "PNG")
    assert np.array_equal(load_image(data, default), load_image(upright, default))


@pytest.mark.parametrize("exact_pixels", [False, True])
def test_sixteen_bits_are_where_we_differ(cat: Image.Image, exact_pixels: bool) -> None:
    # Pillow, and so every original, makes white of all values above 255.
    data = encoded(in_mode(cat, "I;16"), "PNG")
    processor = PROCESSORS["clip"]
    assert np.ptp(theirs(processor, data)[..., 0]) == 0
    config = ours(processor, exact_pixels=exact_pixels)
    assert np.array_equal(load_image(data, config), load_image(encoded(cat.convert("L"), "PNG"), config))


@pytest.mark.parametrize("read", [pixels.from_openclip, pixels.from_transformers])
def test_transparency_shows_white_by_default(read: Any) -> None:
    clear = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    clear.paste((0, 0, 200, 255), (0, 0, 20, 40))
    cfg = pixels.to_openclip(SMALL) if read is pixels.from_openclip else pixels.to_transformers(SMALL)
    picture = load_image(encoded(clear, "PNG"), read(cfg, SMALL.size, Options()))
    assert (picture[:, 20:] == 255).all()
    assert (picture[:, :12] == (0, 0, 200)).all()


def test_openclip_drops_alpha_where_pixels_are_exact() -> None:
    clear = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    picture = load_image(encoded(clear, "PNG"), pixels.from_openclip({}, 32, Options(exact_pixels=True)))
    # What lies under a clear pixel is the encoder's to say; Pillow's resize takes it for black.
    assert picture.max() == 0
