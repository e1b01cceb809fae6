"""How close a bundle is to what it was made of: the same inputs, batches and figures whatever that was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model import smoke_inputs
from model.bundle import Bundle, write_manifest
from model.manifest import MANIFEST, ExportReport
from model.runtime.engine import Engine
from model.tokenizers.clip import TextTokenizer

TOLERANCE = 1e-4
BATCH_SIZES = (1, 2, 3, 4, 5, 8, 13, 16, 32, 33)
# Of large networks, which take seconds a picture on a CPU, fewer are compared.
LARGE_BATCH_SIZES = (1, 3)
LARGE_TEXT_LENGTHS = 6
Vectors = npt.NDArray[np.float32]
Pair = tuple[Vectors, Vectors]


class ExportError(RuntimeError):
    """The graphs do not compute what the network does."""


class Inputs(NamedTuple):
    """Pictures [count, size, size, 3] uint8, rows of token ids, and the sizes of the batches that are compared."""

    pixels: npt.NDArray[np.uint8]
    rows: list[list[int]]
    batch_sizes: tuple[int, ...]


def comparison_inputs(bundle: Bundle, large: bool) -> Inputs:
    """What both sides embed; of a large network it is less."""
    sizes = LARGE_BATCH_SIZES if large else BATCH_SIZES
    rows = smoke_inputs.token_rows(bundle.tokenizer())
    if large:
        rows = [rows[i * (len(rows) - 1) // (LARGE_TEXT_LENGTHS - 1)] for i in range(LARGE_TEXT_LENGTHS)]
    return Inputs(smoke_inputs.pixels(bundle.preprocessing, max(sizes)), rows, sizes)


def engine_pairs(
    engine: Engine, tokenizer: TextTokenizer, inputs: Inputs, images: Vectors, texts: Vectors
) -> tuple[list[Pair], list[Pair]]:
    """The original's vectors of each picture and each row beside the engine's, over batch sizes and text lengths."""
    pixels, rows, sizes = inputs
    # One text of each length alone, then batches of many lengths.
    groups = [[i] for i in range(len(rows))] + [[i * len(rows) // size for i in range(size)] for size in sizes]
    return (
        [(images[:size], engine.embed_images(pixels[:size])) for size in sizes],
        [(texts[group], engine.embed_texts(tokenizer.pad([rows[i] for i in group]))) for group in groups],
    )


def mixture_pairs(engine: Engine, images: Vectors, texts: Vectors, cosines: Vectors) -> list[Pair]:
    """Cosines [images, texts] of images that are mixed for each text beside the engine's: of all, of single pairs."""
    last = len(images) - 1, len(texts) - 1
    alone = (0, 0), (0, last[1]), (last[0], 0), last
    pairs = [(cosines, engine.cosines(images, texts))]
    return pairs + [
        (cosines[i : i + 1, j : j + 1], engine.cosines(images[i : i + 1], texts[j : j + 1])) for i, j in alone
    ]


def report(
    inputs: Inputs,
    images: Sequence[Pair],
    texts: Sequence[Pair],
    tolerance: float,
    difference: str,
    mixed: Sequence[Pair] | None = None,
) -> ExportReport:
    """The figures, with those of `mixed` cosines where pictures have several vectors.

    Raises ExportError, which begins with `difference`, above the tolerance or for NaN.
    """
    image_diff, image_cosine = _compare(images)
    text_diff, text_cosine = _compare(texts)
    mixture_diff = None if mixed is None else _largest_difference(mixed)
    worst = float(np.max([image_diff, text_diff, mixture_diff or 0.0]))
    if not worst <= tolerance:  # written so that NaN fails too
        raise ExportError(f"{difference} by {worst:.2e}, more than {tolerance:.0e}")
    return ExportReport(
        image_max_abs_diff=image_diff,
        image_min_cosine=image_cosine,
        text_max_abs_diff=text_diff,
        text_min_cosine=text_cosine,
        mixture_max_abs_diff=mixture_diff,
        pictures=len(inputs.pixels),
        texts=len(inputs.rows),
        batch_sizes=inputs.batch_sizes,
        text_lengths=(len(inputs.rows[0]), len(inputs.rows[-1])),
        tolerance=tolerance,
    )


def write_measured(
    path: Path, manifest: Mapping[str, Any], tolerance: float, measure: Callable[[Bundle], ExportReport]
) -> Bundle:
    """Write the manifest of the files in `path` with what `measure` finds; where that raises, none is left."""
    # The engine opens only bundles with a manifest: the first one carries no figures, the second the measured ones.
    unmeasured = ExportReport(
        image_max_abs_diff=0, image_min_cosine=0, text_max_abs_diff=0, text_min_cosine=0,
        pictures=0, texts=0, batch_sizes=(), text_lengths=(0, 0), tolerance=tolerance,
    )  # fmt: skip
    draft = write_manifest(path, {**manifest, "export": unmeasured})
    try:
        return write_manifest(path, {**manifest, "export": measure(draft)})
    except BaseException:
        (path / MANIFEST).unlink()  # or what was refused would load, with figures of an export that never was
        raise


def _compare(pairs: Sequence[Pair]) -> tuple[float, float]:
    return _largest_difference(pairs), float(np.min([(a * b).sum(axis=-1).min() for a, b in pairs]))


def _largest_difference(pairs: Sequence[Pair]) -> float:
    # numpy's max and min keep a NaN, Python's lose it.
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))
