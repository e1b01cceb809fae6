"""How close a bundle is to the exported files that it was made of."""

from __future__ import annotations

import numpy as np

from model.bundle import Bundle
from model.checkpoints.onnx_exports.folder import OnnxCheckpoint
from model.checkpoints.onnx_exports.original import image_feeds, text_feeds, unit
from model.export.comparison import ExportError, comparison_inputs, engine_pairs, report
from model.manifest import ExportReport
from model.runtime.engine import Engine


def measure(checkpoint: OnnxCheckpoint, bundle: Bundle, large: bool, tolerance: float) -> ExportReport:
    """Compare the engine with the files, run as their users run them, over batch sizes and text lengths."""
    engine, tokenizer = Engine(bundle, provider="cpu"), bundle.tokenizer()
    inputs = comparison_inputs(bundle, large)
    image, text, config = checkpoint.image, checkpoint.text, checkpoint.tokenizer.text
    pictures = [image_feeds(image, bundle.preprocessing, picture) for picture in inputs.pixels]
    length = bundle.context_length if bundle.manifest.config.text.fixed_length else checkpoint.tokenizer.compared_length
    padded = [text_feeds(text, row, config.pad_id, length) for row in inputs.rows]
    images = unit(np.concatenate([checkpoint.original_image.run(image.output, feed) for feed in pictures]))
    texts = unit(np.concatenate([checkpoint.original_text.run(text.output, feed) for feed in padded]))
    try:
        pairs = engine_pairs(engine, tokenizer, inputs, images, texts)
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ExportError(f"the exported graphs do not run in a bundle: {error}") from error
    return report(inputs, *pairs, tolerance, "the bundle differs from the exported graphs")
