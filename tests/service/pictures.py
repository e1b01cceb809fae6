"""Real photographs, out of packages that the tests install anyway."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path

_SKIMAGE = Path(str(files("skimage"))) / "data"
_SKLEARN = Path(str(files("sklearn"))) / "datasets" / "images"

FILES = {
    "astronaut": _SKIMAGE / "astronaut.png",
    "cat": _SKIMAGE / "chelsea.png",
    "coffee": _SKIMAGE / "coffee.png",
    "rocket": _SKIMAGE / "rocket.jpg",
    "moon": _SKIMAGE / "moon.png",  # 8-bit grey
    "logo": _SKIMAGE / "logo.png",  # with alpha
    "clip": _SKIMAGE / "no_time_for_that_tiny.gif",
    "temple": _SKLEARN / "china.jpg",
    "flower": _SKLEARN / "flower.jpg",
}


def read(name: str) -> bytes:
    return FILES[name].read_bytes()


def as_base64(name: str) -> str:
    return base64.b64encode(read(name)).decode("ascii")
