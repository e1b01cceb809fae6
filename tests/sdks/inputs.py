"""What the clients send, and how what they get is compared."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

PICTURE = Path(__file__).parents[2] / "model" / "probe_data" / "coffee.jpg"
BASE64 = base64.b64encode(PICTURE.read_bytes()).decode("ascii")
DATA_URI = f"data:image/jpeg;base64,{BASE64}"
IMAGE = {"image": BASE64}  # as /embed takes it
TEXTS = ["a photo of a cat", "a rocket at night", "Ein Foto — von einer Katze"]
MANY = [f"{number} cats" for number in range(600)]  # more than max_items
TOO_LONG = "cat " * 100
REFUSAL = "102 tokens"  # in the sentence that TOO_LONG gets


def same(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.array(found, np.float64), wanted, atol=1e-5)
