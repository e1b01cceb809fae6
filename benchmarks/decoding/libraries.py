"""From an encoded picture to the square of pixels, by every library that could do it, each at its fastest.

All give the crop of the reference, upright; JPEGs are decoded at no less than `caution` times the size that is wanted:
2 as the service does it, or 1. What is not installed is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.config import Preprocessing
from model.images.decoders import image_decoder
from model.images.geometry import apply_orientation, part_under_crop, resize_and_crop
from model.images.preprocessing import MAX_PIXELS, load_image, open_header, orientation, preprocess

Pixels = NDArray[np.uint8]
Decode = Callable[[bytes, Preprocessing], Pixels]
Resize = Callable[[Pixels, Preprocessing], Pixels]  # of what is upright
EXACT, SERVED = "Pillow, all pixels", "as served: Pillow, 2x"
_SCALES = (8, 4, 2)


def _pillow(data: bytes, config: Preprocessing, draft_size: int | None) -> Pixels:
    opened = open_header(data, MAX_PIXELS, draft_size)
    opened.load()
    return preprocess(opened.take(), config, opened.box)


def _scale(size: tuple[int, int], least: int) -> int:
    return next((scale for scale in _SCALES if min(size) >= least * scale), 1)


def _decoded(read: Callable[[bytes, int], Pixels], caution: int, resize: Resize | None = None) -> Decode:
    """A way that decodes with `read`, which is given the file and the divisor, and resizes with Pillow or `resize`."""

    def decode(data: bytes, config: Preprocessing) -> Pixels:
        opened = open_header(data)
        width, height = opened.size
        scale = _scale(opened.size, caution * config.size)
        pixels = read(data, scale)
        turned = orientation(opened.take())
        if resize is not None and turned in (None, 1):
            return resize(pixels, config)
        box = None if scale == 1 else (0.0, 0.0, width / scale, height / scale)
        image, box = apply_orientation(Image.fromarray(pixels), box, turned)
        return np.array(resize_and_crop(image, box, config))

    return decode


def _simd(data: bytes, config: Preprocessing) -> Pixels:
    opened = open_header(data, MAX_PIXELS, config.draft_size)
    decoder = image_decoder("simd")
    decoder.load(opened)
    return decoder.preprocess(opened, config)


def _simplejpeg(**options: bool) -> Callable[[bytes, int], Pixels]:
    library: Any = import_module("simplejpeg")

    def read(data: bytes, scale: int) -> Pixels:
        height, width, *_ = library.decode_jpeg_header(data)
        least = {"min_height": -(-height // scale), "min_width": -(-width // scale)} if scale > 1 else {}
        return np.asarray(library.decode_jpeg(data, "RGB", **least, **options))

    return read


def _turbojpeg() -> Callable[[bytes, int], Pixels]:
    library: Any = import_module("turbojpeg")
    decoder = library.TurboJPEG()

    def read(data: bytes, scale: int) -> Pixels:
        return np.asarray(decoder.decode(data, pixel_format=library.TJPF_RGB, scaling_factor=(1, scale)))

    return read


def _nvimagecodec() -> Callable[[bytes, int], Pixels]:
    library: Any = import_module("nvidia.nvimgcodec")
    kind = [library.Backend(library.BackendKind.CPU_ONLY)]
    decoder = library.Decoder(device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY, max_num_cpu_threads=1, backends=kind)
    stored = library.DecodeParams(apply_exif_orientation=False)

    def read(data: bytes, scale: int) -> Pixels:
        assert scale >= 1  # it has no scaled decoding
        return np.asarray(decoder.decode(data, params=stored))

    return read


def _opencv() -> Decode:
    library: Any = import_module("cv2")
    modes = {1: library.IMREAD_COLOR, 2: library.IMREAD_REDUCED_COLOR_2, 4: library.IMREAD_REDUCED_COLOR_4}
    modes[8] = library.IMREAD_REDUCED_COLOR_8

    def read(data: bytes, scale: int) -> Pixels:
        mode = modes[scale] | library.IMREAD_IGNORE_ORIENTATION
        return np.asarray(library.cvtColor(library.imdecode(np.frombuffer(data, np.uint8), mode), 4))  # BGR to RGB

    def resize(pixels: Pixels, config: Preprocessing) -> Pixels:
        size = _resized_to(pixels, config)
        return _centre(library.resize(pixels, size, interpolation=library.INTER_AREA), config)

    return _decoded(read, 2, resize)


def _libvips() -> Decode:
    library: Any = import_module("pyvips")

    def decode(data: bytes, config: Preprocessing) -> Pixels:
        image = library.Image.thumbnail_buffer(data, config.size, height=config.size, crop="centre")
        return np.asarray(image.numpy()[..., :3])

    return decode


def _resized_to(pixels: Pixels, config: Preprocessing) -> tuple[int, int]:
    height, width, _ = pixels.shape
    return int(config.size * width / min(width, height)), int(config.size * height / min(width, height))


def _centre(pixels: Any, config: Preprocessing) -> Pixels:
    y, x = (round((side - config.size) / 2) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[y : y + config.size, x : x + config.size])


def _kornia() -> Resize:
    library: Any = import_module("kornia_rs")

    def resize(pixels: Pixels, config: Preprocessing) -> Pixels:
        width, height = _resized_to(pixels, config)
        return _centre(np.asarray(library.imgproc.resize(pixels, (height, width), "bicubic", antialias=True)), config)

    return resize


def _cykooz() -> Resize:
    simd: Any = import_module("model.images.simd_resize")

    def resize(pixels: Pixels, config: Preprocessing) -> Pixels:
        height, width, _ = pixels.shape
        (left, top, right, bottom), inner = part_under_crop((width, height), None, config)
        part = pixels[top:bottom, left:right]
        return np.asarray(simd.resize_pixels(part.tobytes(), (part.shape[1], part.shape[0]), inner, config))

    return resize


_WAYS: dict[str, Callable[[], Decode]] = {
    EXACT: lambda: lambda data, config: _pillow(data, config, None),
    SERVED: lambda: load_image,
    "Pillow, 1x": lambda: lambda data, config: _pillow(data, config, -(-config.size // 2)),
    "simplejpeg, 2x": lambda: _decoded(_simplejpeg(), 2),
    "simplejpeg, 1x": lambda: _decoded(_simplejpeg(), 1),
    "simplejpeg, 2x, fast DCT, plain upsampling": lambda: _decoded(_simplejpeg(fastdct=True, fastupsample=True), 2),
    "PyTurboJPEG, 2x": lambda: _decoded(_turbojpeg(), 2),
    "nvImageCodec on the CPU": lambda: _decoded(_nvimagecodec(), 10**6),
    "SIGHTWORD_DECODER=simd: Pillow, 2x, cykooz.resizer": lambda: image_decoder("simd") and _simd,
    "simplejpeg, 2x, cykooz.resizer": lambda: _decoded(_simplejpeg(), 2, _cykooz()),
    "simplejpeg, 2x, kornia-rs": lambda: _decoded(_simplejpeg(), 2, _kornia()),
    "OpenCV, 2x, INTER_AREA": _opencv,
    "libvips, thumbnail": _libvips,
}


def libraries() -> Iterator[tuple[str, Decode | None]]:
    """Each way by its name; None where its library is not installed."""
    for name, make in _WAYS.items():
        try:
            yield name, make()
        except (ImportError, OSError, RuntimeError):
            yield name, None
