"""python -m benchmarks.speed.models [PRECISION]: ViT-B/32 with random weights, and its variant, in .bench/models/.

Run as a process of its own: what makes them imports torch, which has no place beside what is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmarks.speed.photographs import CACHE_FOLDER
from model.bundle import Bundle, bundled
from model.manifest import MANIFEST
from model.variant_report import Precision

FOLDER = CACHE_FOLDER / "models"
EXACT = FOLDER / "vit-b-32"
FAST: dict[str, Precision] = {"cpu": "int8", "openvino": "bf16"}  # others are GPUs


def standard(provider: str) -> Sequence[Path]:
    """ViT-B/32, exact and in the precision that is fast on the device, and the bundled model; made where missing."""
    variant = _variant(precision := FAST.get(provider, "fp16"))
    if not all((folder / MANIFEST).exists() for folder in (EXACT, variant)):
        subprocess.run([sys.executable, "-m", "benchmarks.speed.models", precision], check=True)  # noqa: S603
    return [EXACT, variant, bundled()]


def exact() -> Path:
    """ViT-B/32 alone; made where missing."""
    if not (EXACT / MANIFEST).exists():
        subprocess.run([sys.executable, "-m", "benchmarks.speed.models"], check=True)
    return EXACT


def _variant(precision: str) -> Path:
    return FOLDER / f"vit-b-32-{precision}"


def _make(precision: Precision | None) -> None:
    from benchmarks.variants import random_bundle

    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (EXACT / MANIFEST).exists():
        shutil.rmtree(EXACT, ignore_errors=True)  # of a run that was ended
        random_bundle("ViT-B-32", EXACT)
    if precision is not None and not (_variant(precision) / MANIFEST).exists():
        from model.variants.make_variant import make_variant
        from model.variants.options import VariantOptions

        make_variant(Bundle.load(EXACT), _variant(precision), VariantOptions(precision), print)


if __name__ == "__main__":
    _make(cast(Precision, sys.argv[1]) if len(sys.argv) > 1 else None)
