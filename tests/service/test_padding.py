"""Batches are filled up to few sizes on NVIDIA's providers, which changes no vector; elsewhere they are not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.library_config import LibraryConfig, LibraryImageConfig, LibraryTextConfig
from model.runtime.engine import Engine, token_row
from model.runtime.providers import PROVIDERS
from service.inference.padding import fill_up_rows, length_group, padded_lengths, padded_size, padded_sizes
from service.inference.pipeline import Pipeline
from service.inference.warmup import TowerProfile
from service.settings import Settings
from service.state import Service

PROFILES = {"image": TowerProfile(8, 1, 0.001), "text": TowerProfile(24, 1, 0.001)}


class RecordingEngine(Engine):
    """The real engine on the CPU, which says that it is on `named`, and notes the shapes that it is given."""

    def __init__(self, bundle: Bundle, named: str) -> None:
        super().__init__(bundle, "cpu")
        self.provider = PROVIDERS[named]
        self.shapes: list[tuple[int, ...]] = []

    def embed_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.shapes.append(pixels.shape)
        return super().embed_images(pixels)

    def embed_texts(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        self.shapes.append(token_ids.shape)
        return super().embed_texts(token_ids)


def run(bundle: Bundle, bundle_path: Path, named: str, tower: str, payloads: Any) -> tuple[Any, Any, Service]:
    """Vectors of the pipeline on that provider, the shape that its engine has seen, and the service."""
    service = Service(Settings.read({"model": str(bundle_path)}))
    engine = RecordingEngine(bundle, named)
    pipeline = Pipeline(bundle, engine, service.shared, PROFILES)
    try:
        embed = pipeline.run_images if tower == "image" else pipeline.run_texts
        vectors = embed(payloads)
        return vectors, engine.shapes[-1], service
    finally:
        pipeline.close()
        asyncio.run(service.aclose())


@pytest.mark.parametrize(("items", "filled_up"), [(1, 1), (3, 4), (5, 8), (16, 16), (17, 24), (24, 24)])
def test_texts_get_the_same_vectors(bundle: Bundle, bundle_path: Path, items: int, filled_up: int) -> None:
    rows = bundle.tokenizer().encode([f"{number} photos" for number in range(items)])
    plain, seen, _ = run(bundle, bundle_path, "cpu", "text", rows)
    assert seen == (items, max(map(len, rows)))
    padded, seen, service = run(bundle, bundle_path, "cuda", "text", rows)
    assert seen == (filled_up, 16)
    np.testing.assert_allclose(padded, plain, atol=2e-6)
    assert service.metrics.padded_items.labels("text")._value.get() == filled_up - items


@pytest.mark.parametrize(("items", "filled_up"), [(1, 1), (3, 4), (7, 8)])
def test_images_get_the_same_vectors(bundle: Bundle, bundle_path: Path, items: int, filled_up: int) -> None:
    side = bundle.image_size
    pixels = list(np.random.default_rng(0).integers(0, 256, (items, side, side, 3), np.uint8))
    plain, seen, _ = run(bundle, bundle_path, "cpu", "image", pixels)
    assert seen[0] == items
    padded, seen, service = run(bundle, bundle_path, "tensorrt", "image", pixels)
    assert seen[0] == filled_up
    np.testing.assert_allclose(padded, plain, atol=2e-6)
    assert service.metrics.padded_items.labels("image")._value.get() == filled_up - items


@pytest.mark.parametrize("max_batch", [1, 2, 3, 8, 24, 100, 128])
def test_what_is_filled_up_has_one_of_the_sizes(max_batch: int) -> None:
    sizes = padded_sizes(max_batch)
    assert (sizes[0], sizes[-1]) == (1, max_batch)
    for items in range(1, max_batch + 1):
        assert padded_size(items, max_batch) == min(size for size in sizes if size >= items)


def test_every_text_has_one_of_the_lengths(bundle: Bundle) -> None:
    lengths = padded_lengths(bundle)
    assert lengths[-1] == bundle.context_length
    for tokens in range(1, bundle.context_length + 1):
        row = np.full((1, bundle.row_length(tokens)), 7, np.int64)
        filled = fill_up_rows(row, bundle)
        assert filled.shape[1] in lengths
        assert length_group(bundle, filled.shape[1]) == length_group(bundle, tokens)
        assert (filled[:, : row.shape[1]] == row).all()
        assert not filled[:, row.shape[1] :].any()


@pytest.mark.parametrize("pad_id", [1, 49407])
def test_rows_are_filled_up_with_what_the_tower_takes_as_padding(bundle: Bundle, pad_id: int) -> None:
    library = library_bundle(bundle, pad_id)
    filled = fill_up_rows(np.full((2, 5), 7, np.int64), library)
    assert filled.shape == (2, 16)
    assert (filled[:, 5:] == pad_id).all()
    # What warms a tower up has no padding, which a mask would leave out.
    assert (token_row(library, 16) != pad_id).all()


def library_bundle(bundle: Bundle, pad_id: int) -> Bundle:
    """The same graphs, with the configuration of a model whose network is not ours."""
    text = LibraryTextConfig(
        context_length=bundle.context_length,
        vocab_size=49408,
        pad_id=pad_id,
        fixed_length=False,
        tokenizer="hugging_face",
    )
    config = LibraryConfig(
        name="library",
        library="transformers",
        architecture="XLMRobertaModel",
        embed_dim=bundle.dimensions,
        image=LibraryImageConfig(image_size=bundle.image_size),
        text=text,
    )
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"config": config}))
