"""The decoder `simd` beside Pillow: the same pictures but for rounding, the same of every file that is odd or bad."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.decoding.files import gradient
from benchmarks.decoding.peak_memory import measure_peak
from model.config import Preprocessing
from model.images.decoders import ImageDecoder, PillowDecoder, image_decoder
from model.images.memory import ALLOWANCE, BYTES_PER_PIXEL
from model.images.preprocessing import ACCEPTED_FORMATS, ImageError, open_header, preprocess, resize_with_pillow
from model.runtime.engine import Engine
from tests.model.images.samples import vectors
from tests.model.pictures import DEFAULT, REFERENCE, SMALL, Pixels, encoded, in_mode

simd_resize = pytest.importorskip("model.images.simd_resize", reason="the extra simd is not installed")
PILLOW = PillowDecoder()
# Levels of 255: on average, and at most. A fifth of all samples is off by 1; the passes come in another order, which
# shows where one of them would go beyond black or white, as it does in noise.
MEAN, MOST = 0.5, 32


@pytest.fixture(scope="module")
def simd() -> ImageDecoder:
    return image_decoder("simd")


def square(decoder: ImageDecoder, data: bytes, config: Preprocessing = DEFAULT) -> Pixels:
    opened = open_header(data, 1_000_000, config.draft_size)
    decoder.load(opened)
    return decoder.preprocess(opened, config)


def outcome(decoder: ImageDecoder, data: bytes) -> Pixels | tuple[str, str]:
    try:
        return square(decoder, data, SMALL)
    except ImageError as error:
        return error.code, str(error)


def same(first: Pixels | tuple[str, str], second: Pixels | tuple[str, str]) -> bool:
    if isinstance(first, tuple) or isinstance(second, tuple):
        return first == second
    return near(first, second)


def near(first: Pixels, second: Pixels) -> bool:
    off = np.abs(first.astype(int) - second)
    return bool(off.mean() <= (MEAN if first.size > 3 * 7 * 7 else 1)) and int(off.max()) <= MOST


@given(
    width=st.integers(1, 500), height=st.integers(1, 500), size=st.sampled_from([1, 7, 32, 224]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]), mode=st.sampled_from(["shortest", "squash"]),
    larger=st.booleans(), crop=st.sampled_from(["round", "floor"]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_every_size_is_resized_as_pillow_does(
    width: int, height: int, size: int, interpolation: Any, mode: Any, larger: bool, crop: Any
) -> None:
    config = Preprocessing(
        size=size, interpolation=interpolation, resize_mode=mode, crop=crop, resize_size=size + 9 if larger else None
    )
    # In a range in which nothing is cut off between the two passes: of sharp noise, more would differ.
    noise = np.random.default_rng(width * 1000 + height).integers(96, 160, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    fast = preprocess(image, config, None, simd_resize.resize)
    assert fast.shape == (size, size, 3)
    assert np.abs(fast.astype(int) - preprocess(image, config)).max() <= 2


@pytest.mark.parametrize("box", [(0, 0, 319.5, 239.25), (0.25, 3.5, 300, 200), (0, 0, 320, 240)])
def test_a_part_is_resized_as_pillow_does(cat: Image.Image, box: tuple[float, float, float, float]) -> None:
    image = cat.resize((320, 240))
    fast, exact = (resize(image, box, DEFAULT) for resize in (simd_resize.resize, resize_with_pillow))
    assert near(fast, exact)
    assert not np.array_equal(fast, exact)


@pytest.mark.parametrize(("format_name", "options"), [("JPEG", {"quality": 88}), ("PNG", {}), ("WEBP", {})])
@pytest.mark.parametrize("size", [96, 224])
def test_the_model_sees_the_same(
    engine: Engine, simd: ImageDecoder, temple: Image.Image, cat: Image.Image, format_name: str, options: Any, size: int
) -> None:
    config = Preprocessing(size=size)
    for picture in (temple, cat.rotate(90, expand=True)):
        data = encoded(picture, format_name, **options)
        fast, exact = square(simd, data, config), square(PILLOW, data, config)
        assert not np.array_equal(fast, exact)
        assert near(fast, exact)
        if size == 96:
            first, second = vectors(engine, fast, exact)
            assert float(first @ second) > 0.9999


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16", "I;16B"])
def test_pictures_of_other_modes(cat: Image.Image, mode: str) -> None:
    image = in_mode(cat.resize((90, 60)), mode)
    for alpha in ("white", "drop"):
        config = Preprocessing(size=32, alpha=alpha)
        assert near(preprocess(image, config, None, simd_resize.resize), preprocess(image, config))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures(simd: ImageDecoder, temple: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(temple, "JPEG", exif=exif)
    assert near(square(simd, data), square(PILLOW, data))


@pytest.mark.parametrize("config", [REFERENCE, Preprocessing(size=224, resize_mode="longest", fill_color=127)])
def test_what_must_be_exact_or_is_padded_is_pillows(
    simd: ImageDecoder, temple: Image.Image, config: Preprocessing
) -> None:
    data = encoded(temple, "JPEG")
    assert np.array_equal(square(simd, data, config), square(PILLOW, data, config))


def test_what_would_take_much_memory_is_pillows() -> None:
    draw = np.random.default_rng(0)
    large = Image.fromarray(draw.integers(0, 256, (1500, 1500, 3), np.uint8))
    assert large.width * large.height > simd_resize.MAX_PIXELS
    assert np.array_equal(simd_resize.resize(large, None, DEFAULT), resize_with_pillow(large, None, DEFAULT))
    tall, squash = large.resize((1, 20_000)), Preprocessing(size=224, resize_mode="squash")
    assert np.array_equal(simd_resize.resize(tall, None, squash), resize_with_pillow(tall, None, squash))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured by Linux' /proc")
def test_copies_stay_within_what_a_picture_may_take() -> None:
    side = math.isqrt(simd_resize.MAX_PIXELS)
    pixels = side * side
    peak = measure_peak(encoded(gradient(side), "PNG", compress_level=1), pixels, "simd")
    assert peak.outcome == "read"
    assert peak.bytes <= min(BYTES_PER_PIXEL * pixels, ALLOWANCE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_name", ACCEPTED_FORMATS)
def test_damaged_files_have_the_same_outcome(simd: ImageDecoder, cat: Image.Image, format_name: str) -> None:
    draw = np.random.default_rng(11)
    whole, outcomes = encoded(cat.resize((80, 60)), format_name), []
    for _ in range(150):
        spoilt = bytearray(whole[: int(draw.integers(len(whole) // 2, len(whole) + 1))])
        for _ in range(int(draw.integers(0, 8))):
            spoilt[int(draw.integers(len(spoilt) if draw.random() < 0.5 else 100))] = int(draw.integers(256))
        fast, exact = (outcome(decoder, bytes(spoilt)) for decoder in (simd, PILLOW))
        assert same(fast, exact)
        outcomes.append(isinstance(exact, tuple))
    assert any(outcomes)


class PanicException(BaseException):
    """As pyo3 names what a panic of Rust becomes."""


@pytest.mark.parametrize("error", [RuntimeError("no"), PanicException("no")])
def test_where_the_library_gives_up_pillow_goes_on(
    monkeypatch: pytest.MonkeyPatch, cat: Image.Image, error: BaseException
) -> None:
    class GivesUp:
        def resize(self, *_: object) -> None:
            raise error

    monkeypatch.setattr(simd_resize.library, "Resizer", GivesUp)
    assert np.array_equal(simd_resize.resize(cat, None, DEFAULT), resize_with_pillow(cat, None, DEFAULT))


def test_other_exceptions_are_not_swallowed(monkeypatch: pytest.MonkeyPatch, cat: Image.Image) -> None:
    class Interrupted:
        def resize(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(simd_resize.library, "Resizer", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        simd_resize.resize(cat, None, DEFAULT)
