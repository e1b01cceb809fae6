"""Pictures and texts to vectors, through a bundle and the engine: exactly as they are served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.images.preprocessing import ImageError, load_image
from model.runtime.engine import Engine
from model.tokenizers.clip import TextTokenizer
from model.zeroshot import class_vectors, fill
from training.progress import track

Vectors = npt.NDArray[np.float32]
Picture = Callable[[], bytes]  # reads one encoded file
BATCH = 64


class Embedder:
    """Pictures and texts -> vectors of unit length."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._engine = Engine(bundle)
        self._tokenizer = bundle.tokenizer()

    def pictures(self, pictures: Sequence[Picture], what: str = "embedding pictures") -> Vectors:
        """[count, dimensions]; only a few batches of pictures are in memory at a time.

        Raises ImageError naming the picture, OSError: a figure of the pictures that could be read would be another one.
        """
        vectors = np.empty((len(pictures), self.bundle.dimensions), np.float32)
        done = 0
        with ThreadPoolExecutor() as pool:
            pixels = track(_ahead(pool, self._load, pictures), what, len(pictures))
            while batch := list(islice(pixels, BATCH)):
                vectors[done : done + len(batch)] = self._engine.embed_images(np.stack(batch))
                done += len(batch)
        return vectors

    def _load(self, picture: Picture) -> npt.NDArray[np.uint8]:
        try:
            return load_image(picture(), self.bundle.preprocessing)
        except ImageError as error:
            raise ImageError(error.code, f"{picture}: {error}") from error

    def texts(self, texts: Sequence[str]) -> Vectors:
        """[count, dimensions]; texts longer than the context are cut."""
        return embed_texts(self._tokenizer, self._engine.embed_texts, texts)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Picture], npt.NDArray[np.uint8]], pictures: Sequence[Picture]
) -> Iterator[npt.NDArray[np.uint8]]:
    """As pool.map, but no more than two batches ahead of who reads: a million decoded pictures fit in no memory."""
    for start in range(0, len(pictures), BATCH):
        if start == 0:
            waiting = [pool.submit(work, picture) for picture in pictures[:BATCH]]
        following = [pool.submit(work, picture) for picture in pictures[start + BATCH : start + 2 * BATCH]]
        yield from (future.result() for future in waiting)
        waiting = following


def embed_texts(
    tokenizer: TextTokenizer, run: Callable[[npt.NDArray[np.int64]], Vectors], texts: Sequence[str]
) -> Vectors:
    """Texts -> [count, dimensions] by `run`, which takes padded token ids; longer ones than the context are cut."""
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(texts)]
    parts = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    return np.concatenate([run(tokenizer.pad(part)) for part in parts])


def template_vectors(
    embed: Callable[[Sequence[str]], Vectors], names: Sequence[Sequence[str]], templates: Sequence[str]
) -> Vectors:
    """[templates, classes, dimensions], of unit length; several names of a class are averaged."""
    texts = [fill(template, name) for template in templates for several in names for name in several]
    vectors = embed(texts)
    out, at = np.empty((len(templates), len(names), vectors.shape[1]), np.float32), 0
    for row in out:
        for number, several in enumerate(names):
            row[number] = class_vectors(vectors[None, at : at + len(several)])[0]
            at += len(several)
    return out


def label_vectors(
    embed: Callable[[Sequence[str]], Vectors], labels: Sequence[str], templates: Sequence[str]
) -> Vectors:
    """One vector a label [labels, dimensions]: the normalised mean of its templates' normalised vectors."""
    vectors = template_vectors(embed, [[label] for label in labels], templates)
    return class_vectors(vectors.transpose(1, 0, 2))
