"""Longest side with padding, crops of what was resized: against open_clip's and transformers' geometry in Pillow."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from model.config import Preprocessing
from model.images.geometry import resize_and_crop
from model.images.preprocessing import load_image, preprocess
from tests.model.pictures import Pixels, difference, encoded, in_mode

SIZES = [(1, 1), (3, 1000), (1000, 3), (2, 7), (100, 400), (225, 224), (224, 225), (224, 224), (333, 217), (640, 427)]
MODES = ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16"]


def openclip_longest(image: Image.Image, size: int, resampling: Image.Resampling, fill: int) -> Pixels:
    """open_clip's ResizeKeepRatio(longest=1) and CenterCropOrPad(fill), which torchvision does on Pillow pictures.

    The original's own code needs torchvision, of which no CPU build is published: this is its arithmetic.
    """
    ratio = max(image.height / size, image.width / size)
    height, width = (round(side / ratio) for side in (image.height, image.width))
    resized = image.resize((width, height), resampling)
    padding = [(size - width) // 2, (size - height) // 2, (size - width + 1) // 2, (size - height + 1) // 2]
    bands = len(image.getbands())
    padded = ImageOps.expand(resized, tuple(padding), fill if bands == 1 else (fill,) * bands)
    if image.mode == "P":
        palette = image.getpalette()
        assert palette is not None
        padded.putpalette(palette)
    return np.array(padded.convert("RGB"))


def exact(**fields: Any) -> Preprocessing:
    return Preprocessing(size=224, alpha="drop", exif_orientation=False, **fields)


@pytest.mark.parametrize("mode", MODES[:-1])
def test_longest_is_open_clips(cat: Image.Image, mode: str) -> None:
    for size, name, fill in product(SIZES, ("bicubic", "bilinear"), (0, 77, 255)):
        image = in_mode(cat.resize(size), mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.linear_gradient("L").resize(size))
        expected = openclip_longest(image, 224, Image.Resampling[name.upper()], fill)
        ours = preprocess(image, exact(resize_mode="longest", interpolation=name, fill_color=fill))
        assert np.array_equal(ours, expected), f"{size} {name} {fill}"


@pytest.mark.parametrize("mode", MODES)
def test_by_default_the_colour_beside_the_picture_is_that_level_of_grey(cat: Image.Image, mode: str) -> None:
    image = in_mode(cat.resize((300, 100)), mode)
    pixels = preprocess(image, Preprocessing(size=96, resize_mode="longest", fill_color=200))
    assert (pixels[:32] == 200).all()
    assert (pixels[64:] == 200).all()
    assert np.ptp(pixels[32:64]) > 100
    squashed = np.array(cat.resize((300, 100)).resize((96, 32), Image.Resampling.BICUBIC))
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(pixels[32:64], squashed)


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (400_000, 1)])
def test_a_side_that_rounds_to_nothing_is_one_pixel(size: tuple[int, int]) -> None:
    pixels = preprocess(Image.new("RGB", size, "white"), Preprocessing(size=97, resize_mode="longest"))
    assert np.count_nonzero(pixels) == 97 * 3
    assert pixels[48, 48].tolist() == [255, 255, 255]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_the_crop_of_what_was_resized(cat: Image.Image, mode: Any, size: tuple[int, int]) -> None:
    image = cat.resize(size)
    width, height = size
    resized = (int(257 * width / min(size)), int(257 * height / min(size))) if mode == "shortest" else (257, 257)
    left, top = ((side - 224) // 2 for side in resized)
    whole = image.resize(resized, Image.Resampling.BICUBIC)
    expected = np.array(whole.crop((left, top, left + 224, top + 224)))
    config = Preprocessing(size=224, resize_mode=mode, resize_size=257, crop="floor")
    assert np.array_equal(preprocess(image, config), expected)
    part = np.array(resize_and_crop(image, None, config, max_resized_pixels=0))
    assert difference(part, expected) <= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"resize_mode": "longest", "fill_color": 127},
        {"resize_size": 256},
        {"resize_size": 256, "resize_mode": "squash"},
    ],
    ids=str,
)
def test_camera_pictures_are_drafted_for_what_is_resized(temple: Image.Image, fields: dict[str, Any]) -> None:
    data = encoded(temple.resize((4000, 3000)), "JPEG", quality=92)
    config = Preprocessing(size=224, **fields)
    expected = load_image(data, config.model_copy(update={"exif_orientation": False}))
    reduced = load_image(data, config)
    assert 0 < difference(reduced, expected) <= 12
    assert np.abs(reduced - expected.astype(float)).mean() < 0.5


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"resize_size": 224}, "resize_size 224"),
        ({"resize_size": 100}, "resize_size 100"),
        ({"resize_size": 256, "resize_mode": "longest"}, "resize_size 256"),
        ({"resize_size": 5000}, "4096"),
        ({"fill_color": 1}, "fill_color 1"),
        ({"fill_color": 256, "resize_mode": "longest"}, "255"),
        ({"resize_mode": "naflex"}, "'longest'"),
    ],
)
def test_settings_that_contradict_each_other(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Preprocessing(size=224, **fields)


def test_what_names_none_of_this_keeps_its_digest() -> None:
    # A bundle's digest is made of the fields that have other values than their defaults.
    assert Preprocessing(size=224).model_dump(exclude_defaults=True) == {"size": 224}
    written = {"size": 32, "interpolation": "bilinear", "resize_mode": "squash", "exif_orientation": True}
    read = Preprocessing.model_validate(written)
    assert (read.resize_size, read.fill_color) == (None, 0)
    assert set(read.model_dump(exclude_defaults=True)) == {"size", "interpolation", "resize_mode"}
