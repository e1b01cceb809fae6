"""What cosines are multiplied by: no export of two towers has it, but one of both with their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.checkpoints.checkpoint import CheckpointError, Options, naming
from model.checkpoints.onnx_exports.original import Original, unit
from model.manifest import MAX_LOGIT

ASSUMED = 100.0  # what OpenAI's models have, and the most that open_clip lets a model learn
LOGITS = "logits_per_image"
_OPENAIS = ("openai/clip-vit", "clip-vit-base-patch", "clip-vit-large-patch", "clip-vit-b-32", "clip-vit-l-14")
_RESIDUE = 1e-3  # of the scale: how well a line must fit


@dataclass(frozen=True)
class Scale:
    """The scale and bias of logits, and where they come from."""

    scale: float
    bias: float | None
    source: str
    warnings: tuple[str, ...] = ()


def choose_scale(options: Options, config: Mapping[str, Any], known_as: Sequence[str], measured: Scale | None) -> Scale:
    """What the user says, else what was measured, else what is published for the model, else an assumption.

    `known_as` are names that the model may have. Raises CheckpointError for a scale that is none.
    """
    if options.logit_scale is not None:
        if not 0 < options.logit_scale <= MAX_LOGIT:
            raise CheckpointError(f"--logit-scale {options.logit_scale:g}: it is a factor above 0, about 100 for CLIP")
        if abs(options.logit_bias or 0) > MAX_LOGIT:
            raise CheckpointError(f"--logit-bias {options.logit_bias:g}: that is no bias of a model")
        return Scale(options.logit_scale, options.logit_bias, "the command")
    if measured is not None:
        return measured
    if any(name.lower().startswith(_OPENAIS) or name.lower().endswith("__openai") for name in known_as):
        return Scale(ASSUMED, None, "OpenAI's models, which all have it")
    text = "its ONNX files hold no logit scale: 100 is assumed. Embeddings, cosines and rankings do not depend on it"
    if is_sigmoid(config):
        text += (
            ". The scores of /classify do, and with `multi_label` its sigmoid loss has a bias that nothing here tells: "
            "name both with --logit-scale and --logit-bias"
        )
    else:
        text += ". The scores of /classify do: name the model's own with --logit-scale"
    return Scale(ASSUMED, None, "an assumption", (text,))


def is_sigmoid(config: Mapping[str, Any]) -> bool:
    """Whether a configuration of open_clip or transformers is of a model that was trained with the sigmoid loss."""
    return str(config.get("model_type", "")).startswith("siglip") or config.get("init_logit_bias") is not None


def measure_scale(
    original: Original, image_output: str, text_output: str, pairs: Sequence[Mapping[str, Any]], sigmoid: bool
) -> Scale | None:
    """The line on which the logits of a graph of both towers lie, over their cosines; None where it gives none.

    `pairs` are inputs of one picture and one text each. Raises CheckpointError where it is not a line.
    """
    if LOGITS not in original.graph.outputs:
        return None
    logits = np.array([original.run(LOGITS, pair).item() for pair in pairs], np.float64)
    images, texts = (
        np.concatenate([unit(original.run(name, pair)) for pair in pairs]).astype(np.float64)
        for name in (image_output, text_output)
    )
    cosines = (images * texts).sum(axis=1)
    line = np.polyfit(cosines, logits, 1) if sigmoid else [(cosines * logits).sum() / (cosines * cosines).sum(), 0]
    scale, bias = map(float, line)
    with naming(original.graph.file):
        if not (0 < scale <= MAX_LOGIT and np.abs(scale * cosines + bias - logits).max() <= _RESIDUE * scale):
            raise CheckpointError(f"its {LOGITS} are not the cosines of its embeddings times one number")
    return Scale(scale, bias if sigmoid else None, f"{original.graph.file.name}, measured")
