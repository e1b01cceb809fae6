"""Writes shards as DataCompDR's are: synthetic captions, augmentations and vectors of a teacher beside each picture."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.training.conftest import COLOURS, picture, write_shard

DIMENSIONS = 6


def npz(image: np.ndarray, text: np.ndarray, compressed: bool = True) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, image_emb=image, text_emb=text)
    return out.getvalue()


def members_of(key: str, number: int, alt: str, synthetic: list[str], form: str = "npz") -> dict[str, bytes]:
    """The members of a sample, whose vectors of images and texts are of its colour and of chance."""
    rng = np.random.default_rng(number)
    image = rng.normal(size=(3, DIMENSIONS)).astype(np.float32) + 4 * np.eye(DIMENSIONS)[number % 4]
    text = rng.normal(size=(1 + len(synthetic), DIMENSIONS)).astype(np.float32) + 4 * np.eye(DIMENSIONS)[number % 4]
    record: dict[str, Any] = {"uid": f"{number:032x}", "sha256": "0" * 64}
    if form == "json":
        record |= {"image_emb": image.tolist(), "text_emb": text.tolist()}
    vectors = {f"{key}.npz": npz(image.astype(np.float32), text.astype(np.float32))} if form == "npz" else {}
    if form == "pickle":
        vectors = {f"{key}.pth.gz": b"\x1f\x8b no matter what"}
    return {
        f"{key}.json": json.dumps(record).encode(),
        **vectors,
        f"{key}.paug.json": json.dumps({"param_aug": "[[0.1, 0.2]]"}).encode(),
        f"{key}.syn.json": json.dumps({"syn_text": synthetic}).encode(),
        f"{key}.url.txt": b"https://example.org/a.jpg",
        f"{key}.txt": alt.encode(),
        f"{key}.png": picture(list(COLOURS)[number % 4], number, (32, 32)),
    }


def write_reinforced(file: Path, count: int = 40, form: str = "npz") -> Path:
    members: dict[str, bytes] = {}
    for number in range(count):
        colour = list(COLOURS)[number % 4]
        synthetic = [f"a {colour} square number {number}", f"{colour} noise {number % 7}", f"something {colour}"]
        members |= members_of(f"{number:08d}", number, f"alt text\nof {number}", synthetic, form)
    return write_shard(file, members)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
