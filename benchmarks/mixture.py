"""What a model that mixes the vectors of a picture for each text (Llip) costs to serve: python -m benchmarks.mixture

One service has two models of random weights that differ in nothing but the mixture; requests are sent in turn to the
one and to the other, so that a slow moment of the machine hits both. A mixture has the default tokens and heads.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import torch

from benchmarks.inputs import jpeg_files, sentences
from benchmarks.service_process import running
from model.config import MixtureConfig, Preprocessing, load_preset
from model.export.bundle import export_bundle
from model.network import build_network
from model.tokenizers.clip import Tokenizer

PLAIN, MIXED = "one-vector", "mixture"
JPEGS = jpeg_files(3)
WORDS = sentences(1000)
Body = Callable[[], dict[str, Any]]


def known(count: int) -> list[dict[str, str]]:
    """Pictures whose vectors are in the cache."""
    return [_item(JPEGS[index % len(JPEGS)]) for index in range(count)]


def new(count: int) -> list[dict[str, str]]:
    """Pictures that no cache has: bytes behind the end change the file and no pixel."""
    return [_item(JPEGS[index % len(JPEGS)] + os.urandom(8)) for index in range(count)]


def _item(file: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(file).decode()}


CASES: dict[str, Body] = {
    "1 known picture, 3 labels": lambda: {"inputs": known(1), "labels": WORDS[:3]},
    "1 known picture, 1,000 labels": lambda: {"inputs": known(1), "labels": WORDS, "top_k": 5},
    "64 known pictures, 1,000 labels": lambda: {"inputs": known(64), "labels": WORDS, "top_k": 5},
    "1 new picture, 3 labels": lambda: {"inputs": new(1), "labels": WORDS[:3]},
    "16 new pictures, 3 labels": lambda: {"inputs": new(16), "labels": WORDS[:3]},
    "1 text, 1,000 labels": lambda: {"inputs": "a cat", "labels": WORDS, "top_k": 5},
}


def main() -> None:
    """Print a table of milliseconds, medians and fastest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="sightword-small-vit", help="of the network; a vision transformer")
    parser.add_argument("--rounds", type=int, default=30, help="requests to each model, for each row")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        paths = [_export(Path(folder) / name, name, options.preset) for name in (PLAIN, MIXED)]
        with (
            running(Path(folder), Path(",".join(map(str, paths))), timeout_s="300") as service,
            httpx.Client(base_url=service.url, timeout=300) as client,
        ):
            print("| /classify | one vector, ms | mixture, ms | fastest of each |\n| --- | --- | --- | --- |")
            for name, body in CASES.items():
                plain, mixed = _measure(client, body, options.rounds)
                row = f"{median(plain):.1f} | {median(mixed):.1f} | {min(plain):.1f}, {min(mixed):.1f}"
                print(f"| {name} | {row} |", flush=True)


def _export(folder: Path, name: str, preset: str) -> Path:
    mixture = MixtureConfig() if name == MIXED else None
    config = load_preset(preset).model_copy(update={"mixture": mixture})
    torch.manual_seed(0)
    tokenizer = Tokenizer.clip(config.text.vocab_size, config.text.context_length)
    preprocessing = Preprocessing(size=config.image.image_size)
    export_bundle(build_network(config), folder, tokenizer=tokenizer, preprocessing=preprocessing, bundle_id=name)
    return folder


def _measure(client: httpx.Client, body: Body, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of requests to the one model and to the other."""
    took: dict[str, list[float]] = {PLAIN: [], MIXED: []}
    for number in range(-2, rounds):
        for model in (PLAIN, MIXED) if number % 2 else (MIXED, PLAIN):
            content = json.dumps({**body(), "model": model}).encode()
            started = time.perf_counter()
            answer = client.post("/classify", content=content, headers={"content-type": "application/json"})
            answer.raise_for_status()
            if number >= 0:
                took[model].append(1000 * (time.perf_counter() - started))
    return took[PLAIN], took[MIXED]


if __name__ == "__main__":
    main()
