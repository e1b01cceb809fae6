"""Real photographs, out of packages that the tests install anyway, and do not import."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from pathlib import Path


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


_SKIMAGE = _package("skimage") / "data"
_SKLEARN = _package("sklearn") / "datasets" / "images"

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
