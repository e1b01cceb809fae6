"""Zero-shot classification and retrieval on shards, with intervals; through a bundle, so exactly as it is served."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.engine import Engine
from model.preprocessing import load_image
from model.tokenizer import TextTokenizer
from model.zeroshot import class_vectors, fill
from training.progress import track
from training.shards import Sample, ShardError, find_shards, read_shards

Vectors = npt.NDArray[np.float32]
BATCH = 64
Z_95 = 1.959964


@dataclass(frozen=True)
class Classification:
    """Zero-shot result; shares in [0, 1], `interval` is Wilson's 95 % interval of `top1` from n alone."""

    task: str
    pictures: int
    classes: int
    top1: float
    interval: tuple[float, float]
    top5: float
    mean_per_class: float
    per_class: dict[str, float]


@dataclass(frozen=True)
class Retrieval:
    """Caption retrieval: the share of pictures whose own caption is among the first 1 and 5 of all captions."""

    task: str
    pictures: int
    captions: int
    recall_at_1: float
    interval: tuple[float, float]
    recall_at_5: float


class Embedder:
    """Pictures and texts -> vectors, through a bundle and the engine."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._engine = Engine(bundle)
        self._tokenizer = bundle.tokenizer()

    def pictures(self, pictures: Sequence[bytes]) -> Vectors:
        """Encoded files -> [count, dimensions]."""
        vectors = []
        with ThreadPoolExecutor() as pool:
            pixels = pool.map(lambda data: load_image(data, self.bundle.preprocessing), pictures)
            batch: list[npt.NDArray[np.uint8]] = []
            for picture in track(pixels, "embedding pictures", len(pictures)):
                batch.append(picture)
                if len(batch) == BATCH:
                    vectors.append(self._engine.embed_images(np.stack(batch)))
                    batch = []
            if batch:
                vectors.append(self._engine.embed_images(np.stack(batch)))
        return np.concatenate(vectors)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Texts -> [count, dimensions]; longer ones than the context are cut."""
        return embed_texts(self._tokenizer, self._engine.embed_texts, texts)


def embed_texts(
    tokenizer: TextTokenizer, run: Callable[[npt.NDArray[np.int64]], Vectors], texts: Sequence[str]
) -> Vectors:
    """Texts -> [count, dimensions] by `run`, which takes padded token ids; longer ones than the context are cut."""
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(texts)]
    parts = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    return np.concatenate([run(tokenizer.pad(part)) for part in parts])


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share measured on `count` trials (Wilson 1927)."""
    spread = Z_95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def label_vectors(
    embed: Callable[[Sequence[str]], Vectors], labels: Sequence[str], templates: Sequence[str]
) -> Vectors:
    """One vector a label [labels, dimensions]: the normalised mean of its templates' normalised vectors."""
    texts = [fill(template, label) for label in labels for template in templates]
    return class_vectors(embed(texts).reshape(len(labels), len(templates), -1))


def classify(
    task: str, pictures: Vectors, truth: Sequence[str], labels: Sequence[str], words: Vectors
) -> Classification:
    """Score `pictures` [count, dim] against `words` [labels, dim]; `truth` names each picture's label."""
    index = {label: i for i, label in enumerate(labels)}
    target = np.array([index[name] for name in truth])
    hits = _hits(pictures, words, target)
    first = hits[:, 0]
    per_class = {label: float(first[target == i].mean()) for label, i in index.items() if (target == i).any()}
    top1 = float(first.mean())
    return Classification(
        task=task,
        pictures=len(target),
        classes=len(labels),
        top1=top1,
        interval=wilson(top1, len(target)),
        top5=float(hits.any(axis=1).mean()),
        mean_per_class=float(np.mean(list(per_class.values()))),
        per_class=per_class,
    )


def retrieve(task: str, pictures: Vectors, captions: Sequence[str], words: Vectors) -> Retrieval:
    """Rank all distinct captions for each picture; `captions[i]` belongs to picture i, `words` to the distinct ones."""
    column = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    target = np.array([column[caption] for caption in captions])
    hits = _hits(pictures, words, target)
    recall = float(hits[:, 0].mean())
    return Retrieval(
        task=task,
        pictures=len(captions),
        captions=len(column),
        recall_at_1=recall,
        interval=wilson(recall, len(captions)),
        recall_at_5=float(hits.any(axis=1).mean()),
    )


def _hits(pictures: Vectors, words: Vectors, target: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each of a picture's five nearest words is its `target`: [pictures, up to 5], nearest first."""
    order = np.argsort(-(pictures @ words.T), axis=1, kind="stable")[:, :5]
    hits: npt.NDArray[np.bool_] = order == target[:, None]
    return hits


def evaluate_shards(
    embedder: Embedder, tests: dict[str, list[str]], base: Path, templates: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure every named test: by label, by coarse class where there is one, and by caption where most have one."""
    results: list[Classification | Retrieval] = []
    for name, patterns in tests.items():
        samples = list(read_shards(find_shards(patterns, base)))
        if not samples:
            raise ShardError(f"no usable sample in {', '.join(patterns)}")
        pictures = embedder.pictures([sample.picture for sample in samples])
        results.extend(_tasks(name, samples, pictures, embedder, templates))
    return [asdict(result) for result in results]


def _tasks(
    name: str, samples: Sequence[Sample], pictures: Vectors, embedder: Embedder, templates: Sequence[str]
) -> list[Classification | Retrieval]:
    results: list[Classification | Retrieval] = []
    for task, key in ((name, "label"), (f"{name} (coarse)", "coarse")):
        told = [i for i, sample in enumerate(samples) if getattr(sample, key)]
        truth = [getattr(samples[i], key) for i in told]
        labels = sorted(set(truth))
        if len(told) * 2 > len(samples) and len(labels) > 1:
            words = label_vectors(embedder.texts, labels, templates)
            results.append(classify(task, pictures[told], truth, labels, words))
    told = [i for i, sample in enumerate(samples) if sample.captions]
    if len(told) * 2 > len(samples):
        captions = [samples[i].captions[0] for i in told]
        words = embedder.texts(list(dict.fromkeys(captions)))
        results.append(retrieve(f"{name} (captions)", pictures[told], captions, words))
    return results
