"""Every depth, order and layout of samples that a TIFF may have: as the same picture in an ordinary PNG, or refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.decoding.tiffs import layout, tiff
from model.bundle import Bundle, bundled
from model.images.preprocessing import ImageError, load_image
from model.runtime.engine import Engine
from tests.model.images.samples import CLOSE, HEIGHT, WIDTH, Array, check, grey, packed
from tests.model.pictures import encoded

RAW, DEFLATE = 1, 8
UNSIGNED, SIGNED, FRACTIONS = 1, 2, 3
Kind = Callable[[Image.Image, str, int], bytes]  # of a picture, in an order of bytes and a compression


def file_of(
    samples: Array | bytes,
    order: str,
    compression: int,
    bits: int,
    photometric: int = 1,
    kind: int = UNSIGNED,
    channels: int = 1,
    planes: bool = False,
    more: dict[int, tuple[int, Sequence[float]]] | None = None,
) -> bytes:
    """A TIFF of these samples [height, width] or [height, width, channels]."""
    if isinstance(samples, bytes):
        blocks = [samples]
    elif planes:
        blocks = [np.ascontiguousarray(samples[..., channel]).tobytes() for channel in range(channels)]
    else:
        blocks = [samples.tobytes()]
    tags = layout(WIDTH, HEIGHT, bits, channels, photometric, compression)
    tags |= {339: (3, [kind] * channels), 284: (3, [2 if planes else 1])} | (more or {})
    return tiff(tags, [zlib.compress(block) if compression == DEFLATE else block for block in blocks], order)


def integers(name: str, scale: float, offset: float = 0, **options: Any) -> Kind:
    """Grey as whole numbers of a numpy type."""

    def make(image: Image.Image, order: str, compression: int) -> bytes:
        bits = np.dtype(name).itemsize * 8
        return file_of((grey(image) * scale + offset).astype(order + name), order, compression, bits, **options)

    return make


def colours(
    mode: str, bits: int, photometric: int, planes: bool, more: dict[int, tuple[int, Sequence[float]]] | None = None
) -> Kind:
    def make(image: Image.Image, order: str, compression: int) -> bytes:
        values = np.asarray(image.convert(mode)).astype(np.int64) * (257 if bits == 16 else 1)
        values = values.astype(f"{order}u{bits // 8}")
        channels = values.shape[2]
        return file_of(values, order, compression, bits, photometric, channels=channels, planes=planes, more=more)

    return make


def small_palette(scale: int) -> Kind:
    def make(image: Image.Image, order: str, compression: int) -> bytes:
        table = np.zeros((256, 3), int)
        image = image.quantize(200)
        entries = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        table[: len(entries)] = entries * scale
        return file_of(np.asarray(image), order, compression, 8, 3, more={320: (3, table.T.ravel().tolist())})

    return make


def bits_of(bits: int, photometric: int = 1) -> Kind:
    def make(image: Image.Image, order: str, compression: int) -> bytes:
        values = np.round(grey(image) * ((1 << bits) - 1) / 255)
        values = (1 << bits) - 1 - values if photometric == 0 else values
        return file_of(packed(values, bits), order, compression, bits, photometric)

    return make


GREY: dict[str, Kind] = {
    "4 bits": bits_of(4),
    "4 bits, white is 0": bits_of(4, 0),
    "8 bits, white is 0": integers("u1", -1, 255, photometric=0),
    "8 bits, signed": integers("i1", 1, -128, kind=SIGNED),
    "16 bits": integers("u2", 257),
    "16 bits, largest declared": integers("u2", 16, more={281: (3, [4080])}),
    "16 bits, largest declared as any number": integers("u2", 4, more={341: (11, [1020])}),
    "16 bits, largest declared as usual": integers("u2", 257, more={281: (3, [65535])}),
    "16 bits, signed": integers("i2", 257, -32768, kind=SIGNED),
    "16 bits, signed, none below 0": integers("i2", 128.5, kind=SIGNED),
    "16 bits, signed, of 8": integers("i2", 1, kind=SIGNED),
    "32 bits, signed": integers("i4", 16843009, -(2.0**31), kind=SIGNED),
    "32 bits, signed, of 16": integers("i4", 257, kind=SIGNED),
    "32 bits, fractions": integers("f4", 1 / 255, kind=FRACTIONS),
    "32 bits, fractions, white is 0": integers("f4", -1 / 255, 1, kind=FRACTIONS, photometric=0),
    "32 bits, fractions, largest declared": integers("f4", 10, kind=FRACTIONS, more={341: (11, [2550])}),
}
LITTLE_GREY: dict[str, Kind] = {
    "12 bits": bits_of(12),
    "16 bits, white is 0": integers("u2", -257, 65535, photometric=0),
    "32 bits": integers("u4", 16843009),
    "32 bits, of 16": integers("u4", 257),
    "32 bits, of 8": integers("u4", 1),
}
COLOUR: dict[str, Kind] = {
    f"{name}, {'in planes' if planes else 'together'}": colours(mode, bits, photometric, planes)
    for name, mode, bits, photometric in (
        ("RGB", "RGB", 8, 2),
        ("RGB, 16 bits", "RGB", 16, 2),
        ("RGBA", "RGBA", 8, 2),
        ("RGBA, 16 bits", "RGBA", 16, 2),
        ("CMYK", "CMYK", 8, 5),
    )
    for planes in (False, True)
} | {
    "CMYK, 16 bits": colours("CMYK", 16, 5, False),
    "YCbCr": colours("YCbCr", 8, 6, False, {530: (3, [1, 1])}),
    "LAB": colours("LAB", 8, 8, False),
    "palette": small_palette(257),
    "palette of 8 bits": small_palette(1),
}


@pytest.mark.parametrize("compression", [RAW, DEFLATE])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", GREY)
def test_grey_tiffs(engine: Engine, photo: Image.Image, name: str, order: str, compression: int) -> None:
    check(engine, photo.convert("L"), GREY[name](photo, order, compression), 3 if name.startswith("4 bits") else CLOSE)


@pytest.mark.parametrize("compression", [RAW, DEFLATE])
@pytest.mark.parametrize("name", LITTLE_GREY)
def test_grey_tiffs_that_are_read_in_one_order_only(
    engine: Engine, photo: Image.Image, name: str, compression: int
) -> None:
    check(engine, photo.convert("L"), LITTLE_GREY[name](photo, "<", compression))
    with pytest.raises(ImageError, match=r"bits, unsigned, big-endian\) are not read: save it as"):
        load_image(LITTLE_GREY[name](photo, ">", compression), Bundle.load(bundled()).preprocessing)


@pytest.mark.parametrize("compression", [RAW, DEFLATE])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", COLOUR)
def test_coloured_tiffs(engine: Engine, photo: Image.Image, name: str, order: str, compression: int) -> None:
    expected = photo.quantize(200).convert("RGB") if "palette" in name else photo
    check(engine, expected, COLOUR[name](photo, order, compression), 2)


@pytest.mark.parametrize("bits", [1, 2])
def test_few_bits(photo: Image.Image, bits: int) -> None:
    config, most = Bundle.load(bundled()).preprocessing, (1 << bits) - 1
    levels = np.round(grey(photo) * most / 255)
    expected = load_image(encoded(Image.fromarray((levels * (255 // most)).astype(np.uint8)), "PNG"), config)
    for order in "<>":
        for photometric, values in ((1, levels), (0, most - levels)):
            ours = load_image(file_of(packed(values, bits), order, DEFLATE, bits, photometric), config)
            assert np.array_equal(ours, expected)


def subsampled(image: Image.Image) -> bytes:
    """YCbCr with a quarter of the colours, as it lies in a strip."""
    values = np.asarray(image.convert("YCbCr"))
    luma = [values[top::2, left::2, 0] for top in (0, 1) for left in (0, 1)]
    return np.dstack([*luma, values[::2, ::2, 1], values[::2, ::2, 2]]).tobytes()


REFUSED: dict[str, tuple[str, Kind]] = {
    "6 bits": (r"1 of 6 bits, unsigned", bits_of(6)),
    "10 bits": (r"1 of 10 bits, unsigned", bits_of(10)),
    "14 bits": (r"1 of 14 bits, unsigned", bits_of(14)),
    "12 bits, white is 0": (r"grey, white is 0, 1 of 12 bits", bits_of(12, 0)),
    "16-bit fractions": (r"1 of 16 bits, floating-point", integers("f2", 1 / 255, kind=FRACTIONS)),
    "64-bit fractions": (r"1 of 64 bits, floating-point", integers("f8", 1 / 255, kind=FRACTIONS)),
    "grey with alpha, 16 bits": (r"grey, 2 of 16 bits", colours("LA", 16, 1, False)),
    "RGB, 32 bits": (
        r"RGB, 3 of 32 bits, unsigned",
        lambda image, order, compression: file_of(
            np.asarray(image).astype(order + "u4"), order, compression, 32, 2, channels=3
        ),
    ),
    "RGB, fractions": (
        r"RGB, 3 of 32 bits, floating-point",
        lambda image, order, compression: file_of(
            np.asarray(image).astype(order + "f4"), order, compression, 32, 2, FRACTIONS, channels=3
        ),
    ),
    "RGB, signed": (
        r"RGB, 3 of 8 bits, signed",
        lambda image, order, compression: file_of(np.asarray(image), order, compression, 8, 2, SIGNED, channels=3),
    ),
    "LAB in planes": (r"mode LAB, in separate planes", colours("LAB", 8, 8, True)),
    "ICC LAB": (r"photometric interpretation 9, 3 of 8", colours("RGB", 8, 9, False)),
}
REFUSED_RAW: dict[str, tuple[str, Kind]] = {
    "CMYK, 16 bits, in planes": (r"mode CMYK, in separate planes", colours("CMYK", 16, 5, True)),
    "YCbCr in planes": (r"uncompressed YCbCr", colours("YCbCr", 8, 6, True)),
    "YCbCr, subsampled": (
        r"uncompressed YCbCr, subsampled",
        lambda image, order, compression: file_of(
            subsampled(image), order, compression, 8, 6, channels=3, more={530: (3, [2, 2])}
        ),
    ),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_RAW])
def test_what_is_not_read_is_named(photo: Image.Image, name: str, order: str) -> None:
    reason, make = (REFUSED | REFUSED_RAW)[name]
    for compression in (RAW, DEFLATE) if name in REFUSED else (RAW,):
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(make(photo, order, compression), Bundle.load(bundled()).preprocessing)
        assert caught.value.code == "invalid_image"
        assert "truncated" not in str(caught.value)


def test_compressions_that_are_not_read_are_named(photo: Image.Image) -> None:
    for compression in (34712, 34887, 50001, 34676):
        with pytest.raises(ImageError, match=rf"compression \({compression}\) is not read"):
            load_image(file_of(bytes(99), "<", compression, 8), Bundle.load(bundled()).preprocessing)
