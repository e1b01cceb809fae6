from __future__ import annotations

import pytest
from PIL import Image

from model.bundle import Bundle, bundled
from model.runtime.engine import Engine
from tests.model.images.samples import HEIGHT, WIDTH


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Bundle.load(bundled()), provider="cpu")


@pytest.fixture
def photo(cat: Image.Image) -> Image.Image:
    return cat.resize((WIDTH, HEIGHT))
