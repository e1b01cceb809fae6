"""Embedding in Python: images from bytes, paths and readers, texts of any length, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bundle import BundleError, bundled
from model.embedder import Embedder
from model.images.errors import ImageError

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "model" / "probe_data").glob("*.jpg"))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder.load(provider="cpu")


def test_bytes_paths_and_readers_give_the_same_vectors(embedder: Embedder) -> None:
    vectors = embedder.embed_images(PHOTOGRAPHS)
    assert vectors.shape == (len(PHOTOGRAPHS), embedder.bundle.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(embedder.embed_images([file.read_bytes() for file in PHOTOGRAPHS]), vectors)
    np.testing.assert_array_equal(embedder.embed_images([file.read_bytes for file in PHOTOGRAPHS]), vectors)


def test_the_bundle_is_named_by_its_folder_or_is_the_one_that_ships(embedder: Embedder, tmp_path: Path) -> None:
    texts = ["a cat", "a cup of coffee"]
    named = Embedder.load(str(bundled()), provider="cpu")
    np.testing.assert_array_equal(named.embed_texts(texts), embedder.embed_texts(texts))
    with pytest.raises(BundleError, match="is not a bundle"):
        Embedder.load(tmp_path)


def test_an_image_is_nearest_to_its_own_text(embedder: Embedder) -> None:
    images = embedder.embed_images([file for file in PHOTOGRAPHS if file.stem in ("coffee", "chelsea")])
    texts = embedder.embed_texts(["a photo of a cat.", "a photo of a cup of coffee."])
    assert (images @ texts.T).argmax(axis=1).tolist() == [0, 1]


def test_texts_are_cut_to_the_context(embedder: Embedder) -> None:
    vectors = embedder.embed_texts(["snow " * 1000, "snow " * 999])
    assert vectors.shape == (2, embedder.bundle.dimensions)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_nothing_gives_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed_images([]).shape == (0, embedder.bundle.dimensions)
    assert embedder.embed_texts([]).shape == (0, embedder.bundle.dimensions)


def test_an_image_that_cannot_be_used_is_named(embedder: Embedder, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no image")
    with pytest.raises(ImageError, match=r"notes\.txt: the image is not"):
        embedder.embed_images([PHOTOGRAPHS[0], file])
    with pytest.raises(ImageError, match=r"^the image is not"):
        embedder.embed_images([b"no image"])
    with pytest.raises(FileNotFoundError):
        embedder.embed_images([tmp_path / "absent.jpg"])


def test_progress_sees_each_image_as_it_is_embedded(embedder: Embedder) -> None:
    seen: list[int] = []

    def progress(items: Iterator[Any], total: int) -> Iterator[Any]:
        for number, item in enumerate(items):
            seen.append(total - number)
            yield item

    embedder.embed_images(PHOTOGRAPHS * 20, progress)
    assert seen == list(range(len(PHOTOGRAPHS) * 20, 0, -1))


def test_no_torch_is_imported() -> None:
    code = (
        "import sys; from model.embedder import Embedder; Embedder.load(provider='cpu').embed_texts(['a cat']); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
