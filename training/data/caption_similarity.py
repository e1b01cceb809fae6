"""How alike captions and their images are to a teacher: computed once and kept, or taken from stored vectors.

The teacher is a bundle, as CLIP itself is for LAION-400M and DataComp, whose pairs below a cosine are left out; of
reinforced shards it is whatever stored its vectors there.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.embedder import BATCH_SIZE, Embedder, Vectors
from model.files import write_atomically
from model.images.preprocessing import ImageError
from training.config import ConfigError
from training.config.captions import STORED
from training.data.image_reader import ImageReader
from training.data.index import SampleIndex
from training.data.phrases import CAPTION
from training.data.stored_vectors import read_vectors
from training.progress import track
from training.settings import Settings

log = logging.getLogger(__name__)

Similarities = npt.NDArray[np.float32]


def caption_similarities(
    indexes: Sequence[SampleIndex], teacher: str, reader: ImageReader, base: Path, threads: int | None = None
) -> list[Similarities]:
    """Of all phrases of each index the cosine of caption and image [phrases]; NaN for other phrases and broken images.

    `teacher` is a bundle, relative to `base`, that runs on `threads`, or `stored`. What a bundle computes is kept in
    the cache folder. Raises BundleError, EngineError, and ConfigError where nothing is stored.
    """
    if teacher == STORED:
        return [_of_stored(index) for index in indexes]
    bundle = Bundle.load(base / teacher)
    return [_kept(index, bundle, reader, threads) for index in indexes]


def _of_stored(index: SampleIndex) -> Similarities:
    if not index.samples["vectors_size"].any():
        raise ConfigError(
            "data.captions.teacher: stored, and no sample has vectors, KEY.npz with image_emb and text_emb beside "
            "KEY.jpg; name a bundle, or `prepare` shards that have some"
        )
    found, broken = np.full(len(index.phrases), np.nan, np.float32), 0
    for number in track(np.flatnonzero(index.samples["vectors_size"]).tolist(), "reading stored vectors", len(index)):
        places, location = _captions_of(index, number), index.vectors(number)
        assert location is not None
        try:
            vectors = read_vectors(location)
        except OSError as error:
            broken += 1
            log.warning("%s", error) if broken <= 5 else None
            continue
        rows = index.phrases["row"][places]
        known = (rows >= 0) & (rows < len(vectors.texts))
        found[places[known]] = vectors.texts[rows[known]] @ vectors.image
    if broken:
        log.warning("the stored vectors of %d samples cannot be used; their captions are not judged by them", broken)
    return found


def _captions_of(index: SampleIndex, number: int) -> npt.NDArray[np.int64]:
    """The places of the captions of a sample among the phrases."""
    first, count = int(index.samples["phrase"][number]), int(index.samples["phrase_count"][number])
    return first + np.flatnonzero(index.phrases["kind"][first : first + count] == CAPTION)


def _kept(index: SampleIndex, bundle: Bundle, reader: ImageReader, threads: int | None) -> Similarities:
    """From the cache, or computed by one process while others that want the same wait for it."""
    folder = Settings().cache / "similarities"
    file = folder / f"{_digest(index, bundle)}.npy"
    with _only_one(folder):
        if file.is_file():
            found: Similarities = np.load(file, allow_pickle=False)
            return found
        found = _compute(index, Embedder(bundle, threads=threads), reader)
        try:
            with write_atomically(file, concurrent=True) as draft, draft.open("wb") as stream:
                np.save(stream, found)
        except OSError as error:
            log.warning("the similarities of captions are not kept: %s", error)
        return found


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Within it no other process of this machine is; where the folder cannot be written, any."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / ".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: %s", folder, error)
        yield


def _digest(index: SampleIndex, bundle: Bundle) -> str:
    """Of the teacher, of the captions, and of the files that images are in."""
    hashed = hashlib.sha256(bundle.digest.encode())
    for column in ("file", "offset", "size", "phrase_count"):
        hashed.update(index.samples[column].tobytes())
    for column in ("kind", "digest"):
        hashed.update(np.ascontiguousarray(index.phrases[column]).tobytes())
    files = list(map(Path, index.files))
    files += [index.location(int(number)).file for number in np.flatnonzero(index.samples["file"] < 0)]
    for file in files:
        state = file.stat()
        hashed.update(repr((str(file.resolve()), state.st_size, state.st_mtime_ns)).encode())
    return hashed.hexdigest()[:24]


def _compute(index: SampleIndex, embedder: Embedder, reader: ImageReader) -> Similarities:
    found = np.full(len(index.phrases), np.nan, np.float32)
    batches = [range(first, min(first + BATCH_SIZE, len(index))) for first in range(0, len(index), BATCH_SIZE)]
    for numbers in track(batches, "comparing captions with pictures", len(batches)):
        captioned = [(number, places) for number in numbers if len(places := _captions_of(index, number))]
        read = [(places, image) for number, places in captioned if (image := _read(index, number, reader))]
        vectors = _embed_images(embedder, [image for _, image in read])
        texts = [index.phrase_text(int(place)) for places, _ in read for place in places]
        distinct = {text: column for column, text in enumerate(dict.fromkeys(texts))}
        cosines = embedder.cosines(vectors, embedder.embed_texts(list(distinct)))
        columns = iter(distinct[text] for text in texts)
        for row, (places, _) in enumerate(read):
            found[places] = cosines[row, [next(columns) for _ in places]]
    return found


def _read(index: SampleIndex, number: int, reader: ImageReader) -> bytes | None:
    try:
        return reader.read(index.location(number))
    except OSError:
        return None  # counted when it is decoded


def _embed_images(embedder: Embedder, images: Sequence[bytes]) -> Vectors:
    """NaN for those that are broken, which is told when they are decoded for training."""
    try:
        return embedder.embed_images(images)
    except ImageError:
        vectors = np.full((len(images), *embedder.bundle.image_shape), np.nan, np.float32)
    for row, image in enumerate(images):
        try:
            vectors[row] = embedder.embed_images([image])[0]
        except ImageError:
            continue
    return vectors
