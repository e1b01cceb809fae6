"""The nearest right name for one that is wrong: what messages about misspelt names offer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# What other programs call the same, in lower case.
SYNONYMS = (
    {"cuda", "gpu", "nvidia"},
    {"fp32", "float32", "float"},
    {"fp16", "float16", "half", "amp"},
    {"bf16", "bfloat16"},
    {"learning_rate", "lr", "base_lr", "max_lr"},
    {"weight_decay", "wd", "l2"},
    {"warmup_steps", "warmup", "num_warmup_steps"},
    {"clip_norm", "grad_clip", "grad_clip_norm", "max_grad_norm", "gradient_clip_val"},
    {"steps", "epochs", "max_steps", "num_steps", "iterations", "num_train_epochs"},
    {"accumulate", "accum_freq", "gradient_accumulation_steps", "accumulate_grad_batches"},
    {"gradient_checkpointing", "grad_checkpointing"},
    {"start", "pretrained", "resume", "checkpoint"},
    {"holdout", "val", "validation", "val_split"},
    {"contrastive", "clip", "softmax", "infonce"},
    {"sigmoid", "siglip"},
    {"huggingface", "transformers", "hf"},
)


def did_you_mean(wrong: str, right: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> str:
    """`did you mean X or Y?`, or an empty string where none of `right` is near; letter case does not count.

    `cutoff` is difflib's similarity ratio, 0 to 1. What other programs call the same comes before what looks alike.
    """
    by_folded = {name.casefold(): name for name in right}
    word = wrong.casefold()
    near = [name for name in by_folded if any(word in same and name in same for same in SYNONYMS)]
    near = near[:most] or difflib.get_close_matches(word, by_folded, n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(by_folded[name] for name in near)}?" if near else ""


def not_one_of(wrong: str, right: Iterable[str]) -> str:
    """`'x' is not one of a, b, c`, with the nearest of them where one is near."""
    names = list(right)
    near = did_you_mean(wrong, names)
    return f"{wrong!r} is not one of {', '.join(names)}" + (f": {near}" if near else "")
