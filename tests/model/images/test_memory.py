"""What decoding may take: the peak of the worst file of each format, and refusals before anything is decoded."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.decoding.files import WORST, encoded, gradient
from benchmarks.decoding.peak_memory import measure_peak
from benchmarks.decoding.tiffs import layout, one_tile, tiff
from model.images.header import read
from model.images.jpeg import JpegHeader
from model.images.memory import ALLOWANCE, BYTES_PER_PIXEL
from model.images.preprocessing import ImageError, decode, open_header

SIDE = 2500
NOISE = 6 * 2**20  # of a measurement: pages of the heap and of the interpreter

needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured by Linux' /proc")


@needs_proc
@pytest.mark.parametrize("name", WORST)
def test_the_peak_is_what_security_md_says(name: str) -> None:
    data = WORST[name](SIDE)
    peak = measure_peak(data, SIDE * SIDE)
    assert peak.outcome == ("invalid_image" if "largest tile" in name else "read")
    allowance = ALLOWANCE if "largest tile" in name else NOISE
    assert peak.bytes <= BYTES_PER_PIXEL * SIDE * SIDE + 2 * len(data) + allowance


@needs_proc
@pytest.mark.parametrize("name", WORST)
def test_the_limit_lets_every_ordinary_file_in(name: str) -> None:
    assert open_header(WORST[name](600), 600 * 600).pixels >= 1


def refusal(data: bytes, max_pixels: int = 50_000_000) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels)
    return caught.value


BOMBS = {
    "a tile": one_tile(46_000),
    "a tile, in colour": one_tile(20_000, samples=3, photometric=2),
    "a tile of YCbCr": one_tile(20_000, samples=3, photometric=6),
    "a tile of 16 bits": one_tile(30_000, bits=16),
    "a wide tile": tiff({**layout(64, 64), 322: (4, [10**9]), 323: (4, [16])}, [zlib.compress(b"0")], tiled=True),
    "a tile, BigTIFF": tiff(
        {**layout(64, 64), 322: (16, [46_000]), 323: (16, [46_000])}, [zlib.compress(b"0")], tiled=True, big=True
    ),
    "a tile, big-endian": tiff(
        {**layout(64, 64), 322: (3, [46_000]), 323: (3, [46_000])}, [zlib.compress(b"0")], order=">", tiled=True
    ),
    "rows of YCbCr": tiff({**layout(64, 64, samples=3, photometric=6), 278: (4, [8_000_000])}, [zlib.compress(b"0")]),
}


@pytest.mark.parametrize("compression", [5, 7, 8, 32773, 34925, 50000])
def test_a_tile_is_counted_in_every_compression(compression: int) -> None:
    assert refusal(one_tile(46_000, compression=compression)).code == "image_too_large"


@needs_proc
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_take_memory(name: str) -> None:
    error = refusal(BOMBS[name])
    assert error.code == "image_too_large"
    assert "64 x 64 pixels" in str(error)
    assert "tiles or strips" in str(error)
    assert measure_peak(BOMBS[name], 50_000_000).bytes < 4 * 2**20


@pytest.mark.parametrize("tile", [1, 3])
def test_tiles_without_number_are_refused(tile: int) -> None:
    tags = {**layout(7_000, 7_000), 322: (4, [tile]), 323: (4, [tile])}
    assert "more pieces than usual" in str(refusal(tiff(tags, [zlib.compress(b"0")], tiled=True)))


def test_the_canvas_of_webp_is_told_before_the_decoder_takes_it() -> None:
    data = bytearray(encoded(gradient(64, "RGBA"), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (16_382).to_bytes(3, "little") * 2
    error = refusal(bytes(data))
    assert error.code == "image_too_large"
    assert "16,383 x 16,383" in str(error)


def test_several_scans_count_at_the_full_size() -> None:
    """A progressive JPEG keeps all coefficients even where an eighth of its size is decoded."""
    progressive, baseline = (encoded(gradient(2048), "JPEG", progressive=mode, subsampling=0) for mode in (True, False))
    slow, fast = open_header(progressive, draft_size=100), open_header(baseline, draft_size=100)
    assert slow.size == fast.size == (256, 256)
    assert slow.pixels * BYTES_PER_PIXEL >= 6 * 2048 * 2048
    assert fast.pixels < 256 * 256 + 100_000


def test_a_progressive_jpeg_is_held_by_the_limit_of_memory() -> None:
    """One pixel high, for which a row of blocks has to be kept: 8 x 8 coefficients of two bytes for each."""
    row = gradient(64).resize((65_000, 1))
    assert open_header(encoded(row, "JPEG"), max_pixels=65_000)
    tall = encoded(row, "JPEG", progressive=True, subsampling=0)
    assert read(tall)[0].coefficient_bytes() == 8 * 65_000 * 2 * 3  # type: ignore[union-attr]


def test_a_baseline_jpeg_of_several_scans_is_told() -> None:
    header = read(encoded(gradient(64), "JPEG", subsampling=2))[0]
    assert isinstance(header, JpegHeader)
    assert (header.sampling, header.in_first_scan, header.is_buffered) == ([(2, 2), (1, 1), (1, 1)], 3, False)
    header.in_first_scan = 1
    assert header.is_buffered
    assert header.coefficient_bytes() == 64 * 64 * 2 * 3 // 2


@pytest.mark.parametrize("junk", [b"\0\0\0", b"\xff\0", b"\xff\xff\xff\xff", b"\xff\xd0"])
def test_junk_between_segments_hides_nothing(junk: bytes) -> None:
    data = encoded(gradient(64), "JPEG", progressive=True)
    header = read(data[:2] + junk + data[2:])[0]
    assert isinstance(header, JpegHeader)
    assert header.is_buffered
    assert (header.width, header.height) == (64, 64)


@needs_proc
def test_a_sum_of_failing_pictures_leaves_nothing_behind() -> None:
    """Two bombs in one request took 4 GiB: the second begins where the first has ended."""
    program = """
from pathlib import Path
from benchmarks.decoding.tiffs import one_tile
from model.images.preprocessing import ImageError, decode
for _ in range(50):
    try:
        decode(one_tile(46_000))
    except ImageError as error:
        assert error.code == "image_too_large", error
status = Path("/proc/self/status").read_text().split()
print(status[status.index("VmHWM:") + 1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024


def test_a_jpeg_in_a_tiff_is_counted_by_its_own_size() -> None:
    """Of several scans libtiff keeps the coefficients, and the last strip may be taller than what is left of it."""
    inside = encoded(gradient(64, "L"), "JPEG", progressive=True)
    frame = inside.index(b"\xff\xc2")
    tall = inside[: frame + 5] + (65_500).to_bytes(2, "big") + inside[frame + 7 :]
    usual, hostile = (tiff(layout(64, 64, compression=7), [strip]) for strip in (inside, tall))
    assert open_header(usual, 64 * 64).pixels < 20_000
    assert open_header(hostile).pixels * BYTES_PER_PIXEL > 2 * 64 * 65_500


def test_an_extreme_side_counts() -> None:
    """Each row of a picture and each pixel of a side takes more than a pixel's 16 bytes."""
    file = io.BytesIO()
    Image.new("1", (1, 40_000_000)).save(file, "PNG")
    assert refusal(file.getvalue()).code == "image_too_large"
