"""The nearest right name for one that is wrong: what messages about misspelt names offer."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

MAX_ENTRIES = 10_000  # of a folder that are looked at for a name like the one that is not there
SHOWN = 5
WILD = re.compile(r"[*?\[{]")

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


def nearest(wrong: str, right: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> list[str]:
    """Those of `right` that may have been meant, the nearest first; letter case does not count.

    `cutoff` is difflib's similarity ratio, 0 to 1. What other programs call the same comes before what looks alike.
    """
    by_folded = {name.casefold(): name for name in right}
    word = wrong.casefold()
    near = [name for name in by_folded if any(word in same and name in same for same in SYNONYMS)]
    near = near[:most] or difflib.get_close_matches(word, by_folded, n=most, cutoff=cutoff)
    return [by_folded[name] for name in near]


def did_you_mean(wrong: str, right: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> str:
    """`did you mean X or Y?` as a message ends with it, or an empty string where none of `right` is near."""
    near = nearest(wrong, right, most=most, cutoff=cutoff)
    return f"did you mean {' or '.join(near)}?" if near else ""


def not_one_of(wrong: str, right: Iterable[str]) -> str:
    """`'x' is not one of a, b, c`, with the nearest of them where one is near."""
    names = list(right)
    near = did_you_mean(wrong, names)
    return f"{wrong!r} is not one of {', '.join(names)}" + (f": {near}" if near else "")


def did_you_mean_path(path: str | Path, base: Path | None = None) -> str:
    """`: did you mean X?` or `: FOLDER holds a, b and 3 more` for a path or glob pattern that matches nothing.

    Looked for beside the first part of it that is not there, among MAX_ENTRIES entries at most. Begins with what joins
    it to a message; empty where nothing can be offered.
    """
    parts = Path(path).parts
    folder, known = base or Path(), 0
    while known < len(parts) - 1 and (folder / parts[known]).is_dir():
        folder, known = folder / parts[known], known + 1
    try:
        with os.scandir(folder) as found:
            names = sorted(entry.name for entry in islice(found, MAX_ENTRIES) if not entry.name.startswith("."))
    except OSError:
        return ""
    if not parts or parts[known] in ("..", "/"):
        return ""
    near = nearest(parts[known], names)
    if near:
        wholes = [Path(*parts[:known], name, *parts[known + 1 :]) for name in near]
        existing = [whole for whole in wholes if (base or Path()).joinpath(whole).exists()]
        shown = existing or [Path(*parts[:known], name) for name in near]
        return f": did you mean {' or '.join(map(str, shown))}?"
    if not WILD.search(parts[known]):
        return ""
    return f": {Path(*parts[:known])} holds {_some(names)}"


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN]) or "nothing"
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
