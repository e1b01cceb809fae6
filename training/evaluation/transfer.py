"""Transfer: a linear head that begins with what a model knows of the names of the classes, beside one from zero.

CatLIP (Mehta et al. 2024, arXiv 2404.15653, section 5.1) begins a downstream classifier with the rows that its own
classifier has for the same synsets. WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903) does it with the vectors of the
classes' prompts, times the logit scale: the head is the zero-shot classifier then. Either way it is held near that
beginning by a penalty whose strength is chosen on validation pictures (see `linear_head`); the curve from zero has the
same pictures, the same penalty and the same choice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from training.evaluation.initial_head import InitialHead
from training.evaluation.linear_head import ITERATIONS, Floats, LinearHead, fit_head
from training.evaluation.linear_probe import (
    DRAWS,
    SHOTS,
    ProbeData,
    draw_shots,
    mean_of_draws,
    search_strength,
    split_for_search,
)
from training.evaluation.results import Result
from training.evaluation.zeroshot import Targets, classify

log = logging.getLogger(__name__)
TASK = "transfer"
FROM_ZERO = "_from_zero"


def transfer(dataset: str, data: ProbeData, initial: InitialHead, headline: str = "acc1") -> Iterator[Result]:
    """From no picture, from a few of each class (the mean of three draws) and from all of the training split.

    Each result has the figures of the head that begins with `initial`, and as `acc1_from_zero` that of the other.
    """
    settings = {"initial_rows": initial.sources}
    start = LinearHead(initial.weights.astype(np.float64), np.zeros(len(initial.weights)))
    told = {**settings, **({"categories": initial.categories} if initial.categories else {})}
    yield replace(_scored(f"{dataset}, no picture", data, start, headline), settings=told)
    least = np.bincount(data.train_targets, minlength=len(data.classes)).min()
    for shots in (number for number in SHOTS if 2 * number <= least):
        draws = [draw_shots(data.train_targets, shots, draw) for draw in range(DRAWS)]
        fitted = [
            both_heads(f"{dataset}, {shots} shots", data, start.weights, *draw, draw[0], headline) for draw in draws
        ]
        yield mean_of_draws(fitted, settings | {"shots": shots})
    parts = split_for_search(data.train_targets)
    everything = both_heads(f"{dataset}, all", data, start.weights, *parts, np.arange(len(data.train)), headline)
    yield replace(everything, settings={**settings, **everything.settings})


def both_heads(
    name: str,
    data: ProbeData,
    initial: Floats,
    fitting: Targets,
    choosing: Targets,
    final: Targets,
    headline: str = "acc1",
) -> Result:
    """Both heads fitted to the training pictures `final`, by strengths that do best on `choosing` after `fitting`."""
    begun, strength = _fitted(data, initial, fitting, choosing, final)
    zero, strength_from_zero = _fitted(data, np.zeros_like(initial), fitting, choosing, final)
    result, other = _scored(name, data, begun, headline), _scored(name, data, zero, headline)
    settings = {"strength": strength, "strength_from_zero": strength_from_zero, "training_pictures": len(final)}
    metrics = {**result.metrics, f"{headline}{FROM_ZERO}": other.value}
    return replace(result, metrics=metrics, settings=settings)


def _fitted(
    data: ProbeData, initial: Floats, fitting: Targets, choosing: Targets, final: Targets
) -> tuple[LinearHead, float]:
    def score(strength: float) -> float:
        head = fit_head(data.train[fitting], data.train_targets[fitting], initial, strength)
        found = head.logits(data.train[choosing]).argmax(axis=1)
        return float((found == data.train_targets[choosing]).mean())

    strength = search_strength(score)
    head = fit_head(data.train[final], data.train_targets[final], initial, strength)
    if not head.converged:
        log.warning("a linear head has not converged in %d iterations, with a penalty of %.2g", ITERATIONS, strength)
    return head, strength


def _scored(name: str, data: ProbeData, head: LinearHead, headline: str) -> Result:
    scores = head.logits(data.test)
    return classify(name, scores, data.test_targets, data.classes, headline=headline, task=TASK)
