"""Parity: the engine on the device against torch in fp32 on the CPU, for every family and precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.models import bundles, families
from model.bundle import Bundle
from model.runtime.engine import Engine

Vectors = NDArray[np.float32]


class Tolerance(NamedTuple):
    """Of unit vectors: the smallest cosine, and the largest difference of a component."""

    cosine: float
    difference: float


# By precision. fp32 is exact where TF32 is not used: that rounds to 10 bits, and differs by 1e-3.
TOLERANCES = {"fp32": Tolerance(0.99999, 1e-4), "fp16": Tolerance(0.999, 2e-2), "bf16": Tolerance(0.999, 2e-2)}


def run(options: Options, findings: Findings) -> None:
    """Compare all bundles that were made, alone and in batches, and a provider's second run of a shape, too."""
    for family in families(options):
        with np.load(family / "reference.npz") as held:
            reference: dict[str, NDArray[Any]] = dict(held)
        for bundle in bundles(family):
            _compare_bundle(options, findings, bundle, bundle.path.name, reference)


def _compare_bundle(
    options: Options, findings: Findings, bundle: Bundle, variant: str, reference: dict[str, NDArray[Any]]
) -> None:
    engine = Engine(bundle, options.device)
    name = f"{bundle.manifest.config.name} {variant}"
    towers = (
        ("image", engine.embed_images, reference["pixels"], reference["image"]),
        ("text", engine.embed_texts, reference["token_ids"], reference["text"]),
    )
    for tower, embed, inputs, expected in towers:
        for size in (1, len(inputs)):
            for _ in range(2):  # the second run of a shape takes what the first has planned
                got = np.concatenate([embed(inputs[start : start + size]) for start in range(0, len(inputs), size)])
                judge(
                    findings, f"{name}, {tower} tower, batches of {size}", got, expected, TOLERANCES[bundle.precision]
                )


def judge(findings: Findings, what: str, got: Vectors, expected: Vectors, tolerance: Tolerance) -> None:
    """The promise about vectors [n, dimensions] that should be those. Said once where a repetition keeps it, too."""
    finite = got.shape == expected.shape and bool(np.isfinite(got).all())
    cosine = float((got * expected).sum(axis=1).min()) if finite else float("nan")
    difference = float(np.abs(got - expected).max()) if finite else float("nan")
    kept = cosine >= tolerance.cosine and difference <= tolerance.difference  # NaN keeps neither
    promise = f"{what}: cosine ≥ {tolerance.cosine}, difference ≤ {tolerance.difference:g}"
    if kept and any(each.what == promise and each.kept for each in findings.promises):
        return
    findings.promise(promise, kept, f"{cosine:.6f}, {difference:.1e}")
