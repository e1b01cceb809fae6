"""How close a variant is to its source, and how fast: both run on the same pictures and texts, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model.bundle import Bundle
from model.runtime.engine import Engine
from model.variants.inputs import LABELS, token_rows
from model.variants.options import VariantError

IMAGE_BATCH, TEXT_BATCH = 8, 16
ROUNDS, MIN_ROUNDS = 7, 3
MAX_TIMING_S = 30.0  # of a tower, once MIN_ROUNDS are done

Rows = list[list[int]]
Vectors = npt.NDArray[np.float32]
Run = Callable[[Any], Vectors]


class Closeness(NamedTuple):
    """One tower of two bundles: a cosine for each item, and how many times faster the second one is."""

    cosines: Vectors
    alone: Vectors  # of the first items, each alone, to the same among others, by the second one
    batch: int
    speed_ratio: float


class Comparison(NamedTuple):
    """A variant beside its source, tower by tower."""

    image: Closeness
    text: Closeness
    top1_agreement: float  # share of the pictures for which both choose the same label
    provider: str


def compare(source: Bundle, variant: Bundle, pixels: npt.NDArray[np.uint8]) -> Comparison:
    """Embed `pixels` [images, size, size, 3] and texts with both bundles, on the same provider.

    Raises VariantError where the variant's vectors are not finite.
    """
    # On a GPU, where int8 is not computed, a variant in it would be timed on the CPU against its source on the GPU.
    provider = "cpu" if variant.precision == "int8" else "auto"
    first, second = Engine(source, provider), Engine(variant, provider)
    tokenizer = source.tokenizer()
    rows = token_rows(tokenizer)
    images = [pixels[start : start + IMAGE_BATCH] for start in range(0, len(pixels), IMAGE_BATCH)]
    texts = [tokenizer.pad(rows[start : start + TEXT_BATCH]) for start in range(0, len(rows), TEXT_BATCH)]
    image_vectors = _embed(first.embed_images, images), _embed(second.embed_images, images)
    text_vectors = _embed(first.embed_texts, texts), _embed(second.embed_texts, texts)
    if not all(np.isfinite(vectors).all() for vectors in (image_vectors[1], text_vectors[1])):
        raise VariantError("the variant gives vectors that are not numbers: use another --precision")
    logits = [
        engine.cosines(image, text[: len(LABELS)])
        for engine, image, text in zip((first, second), image_vectors, text_vectors, strict=True)
    ]
    # An image and a text alone, as in requests of one item.
    single_images = [pixels[i : i + 1] for i in range(len(images[0]))]
    single_texts = [tokenizer.pad([row]) for row in rows[:TEXT_BATCH]]
    return Comparison(
        image=Closeness(
            cosines=_cosines(*image_vectors),
            alone=_cosines(_embed(second.embed_images, single_images), image_vectors[1][: len(single_images)]),
            batch=len(images[0]),
            speed_ratio=speed_ratio(first.embed_images, second.embed_images, images[0]),
        ),
        text=Closeness(
            cosines=_cosines(*text_vectors),
            alone=_cosines(_embed(second.embed_texts, single_texts), text_vectors[1][: len(single_texts)]),
            batch=len(texts[0]),
            speed_ratio=speed_ratio(first.embed_texts, second.embed_texts, texts[0]),
        ),
        top1_agreement=float((logits[0].argmax(axis=1) == logits[1].argmax(axis=1)).mean()),
        provider=second.provider,
    )


def largest_difference(source: Bundle, variant: Bundle, pixels: npt.NDArray[np.uint8], rows: Rows) -> float:
    """The largest difference of any component of any vector, alone and in a batch; NaN if one is not a number."""
    first, second = Engine(source), Engine(variant)
    pad = source.tokenizer().pad
    pairs = [(first.embed_texts(ids), second.embed_texts(ids)) for ids in (*(pad([row]) for row in rows), pad(rows))]
    pairs += [(first.embed_images(part), second.embed_images(part)) for part in (pixels[:1], pixels)]
    return float(np.max([np.abs(one - other).max() for one, other in pairs]))


def speed_ratio(source: Run, variant: Run, batch: npt.NDArray[Any]) -> float:
    """How many times faster the second is: medians of runs in turn, so that a slow moment of the machine hits both."""
    durations: tuple[list[float], list[float]] = ([], [])
    begun = time.perf_counter()
    while len(durations[0]) < ROUNDS:
        for run, seconds in zip((source, variant), durations, strict=True):
            started = time.perf_counter()
            run(batch)
            seconds.append(time.perf_counter() - started)
        if len(durations[0]) >= MIN_ROUNDS and time.perf_counter() - begun > MAX_TIMING_S:
            break
    return median(durations[0]) / median(durations[1])


def _embed(run: Run, batches: Sequence[npt.NDArray[Any]]) -> Vectors:
    return np.concatenate([run(batch) for batch in batches])


def _cosines(vectors: Vectors, others: Vectors) -> Vectors:
    """Of each item; of a picture with several vectors, that of the one that is farthest."""
    cosines: Vectors = (vectors * others).sum(axis=-1).reshape(len(vectors), -1).min(axis=1)
    return cosines
