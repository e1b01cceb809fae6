"""How close a bundle is to the exported files that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model import smoke_inputs
from model.bundle import Bundle
from model.checkpoints.onnx_exports.folder import OnnxCheckpoint
from model.checkpoints.onnx_exports.original import image_feeds, text_feeds, unit
from model.export.bundle import BATCH_SIZES, LARGE_BATCH_SIZES, LARGE_TEXT_LENGTHS, ExportError
from model.manifest import ExportReport
from model.runtime.engine import Engine

_Array = npt.NDArray[Any]


def measure(checkpoint: OnnxCheckpoint, bundle: Bundle, large: bool, tolerance: float) -> ExportReport:
    """Compare the engine with the files, run as their users run them, over batch sizes and text lengths."""
    engine, tokenizer = Engine(bundle, provider="cpu"), bundle.tokenizer()
    sizes = LARGE_BATCH_SIZES if large else BATCH_SIZES
    pixels = smoke_inputs.pixels(bundle.preprocessing, max(sizes))
    rows = smoke_inputs.token_rows(tokenizer)
    if large:
        rows = [rows[i * (len(rows) - 1) // (LARGE_TEXT_LENGTHS - 1)] for i in range(LARGE_TEXT_LENGTHS)]
    image, text, config = checkpoint.image, checkpoint.text, checkpoint.tokenizer.text
    pictures = [image_feeds(image, bundle.preprocessing, picture) for picture in pixels]
    length = bundle.context_length if bundle.manifest.config.text.fixed_length else checkpoint.tokenizer.compared_length
    padded = [text_feeds(text, row, config.pad_id, length) for row in rows]
    theirs_image = unit(np.concatenate([checkpoint.original_image.run(image.output, feed) for feed in pictures]))
    theirs_text = unit(np.concatenate([checkpoint.original_text.run(text.output, feed) for feed in padded]))
    groups = [[i] for i in range(len(rows))] + [[i * len(rows) // size for i in range(size)] for size in sizes]
    try:
        images = [(theirs_image[:size], engine.embed_images(pixels[:size])) for size in sizes]
        texts = [(theirs_text[group], engine.embed_texts(tokenizer.pad([rows[i] for i in group]))) for group in groups]
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ExportError(f"the exported graphs do not run in a bundle: {error}") from error
    image_diff, image_cosine = _compare(images)
    text_diff, text_cosine = _compare(texts)
    worst = float(np.max([image_diff, text_diff]))
    if not worst <= tolerance:  # written so that NaN fails too
        raise ExportError(f"the bundle differs from the exported graphs by {worst:.2e}, more than {tolerance:.0e}")
    return ExportReport(
        image_max_abs_diff=image_diff,
        image_min_cosine=image_cosine,
        text_max_abs_diff=text_diff,
        text_min_cosine=text_cosine,
        pictures=len(pixels),
        texts=len(rows),
        batch_sizes=sizes,
        text_lengths=(len(rows[0]), len(rows[-1])),
        tolerance=tolerance,
    )


def _compare(pairs: Sequence[tuple[_Array, _Array]]) -> tuple[float, float]:
    # numpy's max and min keep a NaN, Python's lose it.
    difference = float(np.max([np.abs(a - b).max() for a, b in pairs]))
    cosine = float(np.min([(a * b).sum(axis=1).min() for a, b in pairs]))
    return difference, cosine
