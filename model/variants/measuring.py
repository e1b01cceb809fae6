"""How close a variant is to its source, and how fast: both run on the same pictures and texts, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model import smoke_inputs
from model.bundle import Bundle
from model.runtime.engine import Engine
from model.tokenizers.clip import TextTokenizer
from model.variants.errors import VariantError
from model.variants.labels import NOUNS
from model.zeroshot import DEFAULT_TEMPLATES, fill

PICTURE_BATCH, TEXT_BATCH = 8, 16
ROUNDS, LEAST_ROUNDS = 7, 3
LONGEST_S = 30.0  # of timing a tower, once LEAST_ROUNDS are done
PASSAGES = 28

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
    """Two bundles."""

    image: Closeness
    text: Closeness
    top1_agreement: float  # share of the pictures for which both choose the same label
    provider: str


def token_rows(tokenizer: TextTokenizer) -> Rows:
    """The prompt of every label, then passages of many lengths."""
    prompts = tokenizer.encode([fill(DEFAULT_TEMPLATES[0], noun) for noun in NOUNS])
    passages = smoke_inputs.token_rows(tokenizer)
    picked = [passages[i * len(passages) // PASSAGES] for i in range(PASSAGES)]
    return [*(tokenizer.truncate(row) for row in prompts), *picked]


def compare(source: Bundle, variant: Bundle, pixels: npt.NDArray[np.uint8]) -> Comparison:
    """Embed `pixels` [pictures, size, size, 3] and texts with both bundles, on the same provider.

    Raises VariantError where the variant's vectors are not finite.
    """
    first, second = Engine(source), Engine(variant)
    tokenizer = source.tokenizer()
    rows = token_rows(tokenizer)
    pictures = [pixels[start : start + PICTURE_BATCH] for start in range(0, len(pixels), PICTURE_BATCH)]
    texts = [tokenizer.pad(rows[start : start + TEXT_BATCH]) for start in range(0, len(rows), TEXT_BATCH)]
    images = _embed(first.embed_images, pictures), _embed(second.embed_images, pictures)
    prompts = _embed(first.embed_texts, texts), _embed(second.embed_texts, texts)
    if not all(np.isfinite(vectors).all() for vectors in (images[1], prompts[1])):
        raise VariantError("the variant gives vectors that are not numbers: use another --precision")
    labels = [image @ text[: len(NOUNS)].T for image, text in zip(images, prompts, strict=True)]
    # A picture and a text as a lone request brings them.
    lone_pictures = [pixels[i : i + 1] for i in range(len(pictures[0]))]
    lone_texts = [tokenizer.pad([row]) for row in rows[:TEXT_BATCH]]
    return Comparison(
        image=Closeness(
            cosines=_cosines(*images),
            alone=_cosines(_embed(second.embed_images, lone_pictures), images[1][: len(lone_pictures)]),
            batch=len(pictures[0]),
            speed_ratio=speed_ratio(first.embed_images, second.embed_images, pictures[0]),
        ),
        text=Closeness(
            cosines=_cosines(*prompts),
            alone=_cosines(_embed(second.embed_texts, lone_texts), prompts[1][: len(lone_texts)]),
            batch=len(texts[0]),
            speed_ratio=speed_ratio(first.embed_texts, second.embed_texts, texts[0]),
        ),
        top1_agreement=float((labels[0].argmax(axis=1) == labels[1].argmax(axis=1)).mean()),
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
    spent: tuple[list[float], list[float]] = ([], [])
    begun = time.perf_counter()
    while len(spent[0]) < ROUNDS:
        for run, seconds in zip((source, variant), spent, strict=True):
            started = time.perf_counter()
            run(batch)
            seconds.append(time.perf_counter() - started)
        if len(spent[0]) >= LEAST_ROUNDS and time.perf_counter() - begun > LONGEST_S:
            break
    return median(spent[0]) / median(spent[1])


def _embed(run: Run, batches: Sequence[npt.NDArray[Any]]) -> Vectors:
    return np.concatenate([run(batch) for batch in batches])


def _cosines(vectors: Vectors, others: Vectors) -> Vectors:
    cosines: Vectors = (vectors * others).sum(axis=1)
    return cosines
