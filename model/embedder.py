"""Embed images and texts with a bundle, in Python: the same vectors as the service gives.

    from model.embedder import Embedder

    embedder = Embedder.load("runs/mine/bundle")
    images, texts = embedder.embed_images([Path("cat.jpg")]), embedder.embed_texts(["a cat", "a dog"])
    similarities = embedder.cosines(images, texts)

Needs no torch: a bundle is run by onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle, bundled
from model.images.preprocessing import ImageError, load_image
from model.prefetch import prefetch
from model.runtime.engine import Engine
from model.tokenizers.categories import CategoryTokenizer
from model.tokenizers.clip import TextTokenizer

BATCH_SIZE = 64

Vectors = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
ReadBytes = Callable[[], bytes]  # gives the content of one image file
Progress = Callable[..., Iterator[Pixels]]  # (iterator, total=...) -> the same items


def no_progress(items: Iterator[Pixels], total: int) -> Iterator[Pixels]:
    """Yield what is embedded as it is, and show nothing."""
    return items


class Embedder:
    """Images and texts -> vectors of unit length, and how alike they are."""

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None) -> None:
        """Open a loaded bundle; `provider` and `threads` as `Engine` takes them. Raises EngineError, BundleError."""
        self.bundle = bundle
        self._engine = Engine(bundle, provider, threads)
        self._tokenizer = bundle.tokenizer()

    @classmethod
    def load(cls, path: str | Path | None = None, provider: str = "auto", threads: int | None = None) -> Embedder:
        """Check and open the bundle in the folder `path`, or the checkpoint that ships with the package.

        Raises BundleError for a folder that is no intact bundle, EngineError for a provider that is not there.
        """
        return cls(Bundle.load(bundled() if path is None else Path(path)), provider, threads)

    def embed_images(self, images: Sequence[bytes | Path | ReadBytes], progress: Progress = no_progress) -> Vectors:
        """Image files, as bytes, paths or functions that read them -> float32 [images, dimensions].

        A model that mixes an image for each text (Llip) has several vectors of it: [images, tokens, dimensions].
        They are decoded in threads and embedded in batches, of which only a few are in memory at a time. `progress`
        wraps the iterator over what is decoded. Raises ImageError naming the image, and OSError for one that cannot be
        read.
        """
        vectors = np.empty((len(images), *self.bundle.image_shape), np.float32)
        done = 0
        with ThreadPoolExecutor() as pool:
            decoded = progress(prefetch(pool, self._decode, images, 2 * BATCH_SIZE), total=len(images))
            while batch := list(islice(decoded, BATCH_SIZE)):
                with self._engine.image_session.stacked(batch) as pixels:
                    vectors[done : done + len(batch)] = self._engine.embed_images(pixels)
                done += len(batch)
        return vectors

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts -> float32 [texts, dimensions]; those longer than the context length are cut to it.

        Raises UnknownTextError for what is no category, of a model that knows these by name only.
        """
        if not texts:
            return np.empty((0, self.bundle.dimensions), np.float32)
        return embed_texts(self._tokenizer, self._engine.embed_texts, texts)

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that `embed_texts` refuses, of a model that knows categories by name only."""
        return self._tokenizer.unknown(texts) if isinstance(self._tokenizer, CategoryTokenizer) else []

    def cosines(self, images: Vectors, texts: Vectors) -> Vectors:
        """Embeddings of images and of texts -> how alike each of the one and of the other are [images, texts]."""
        return self._engine.cosines(images, texts)

    def _decode(self, image: bytes | Path | ReadBytes) -> Pixels:
        if isinstance(image, bytes):
            return load_image(image, self.bundle.preprocessing)
        try:
            return load_image(image.read_bytes() if isinstance(image, Path) else image(), self.bundle.preprocessing)
        except ImageError as error:
            raise ImageError(error.code, f"{image}: {error}") from error


def embed_texts(
    tokenizer: TextTokenizer, run: Callable[[npt.NDArray[np.int64]], Vectors], texts: Sequence[str]
) -> Vectors:
    """Texts -> [texts, dimensions] by `run`, which takes padded token ids [batch, length]; long ones are cut."""
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(texts)]
    batches = [rows[i : i + BATCH_SIZE] for i in range(0, len(rows), BATCH_SIZE)]
    return np.concatenate([run(tokenizer.pad(batch)) for batch in batches])
