"""Linear probe and few-shot curves: logistic regression on the image tower's vectors, as in the CLIP paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from model.embedder import Vectors
from model.zeroshot import class_vectors
from training.evaluation.linear_head import limited_threads
from training.evaluation.results import Result
from training.evaluation.zeroshot import Targets, classify

ITERATIONS = 1000
# Strengths of the L2 penalty from 1e-6 to 1e6, eight a decade (CLIP paper, appendix A.3).
STRENGTHS = np.logspace(-6, 6, 97)
FIRST_STEP = 16  # of the search: two decades
VALIDATION = 0.2  # of the training pictures, where there is no split of its own
SHOTS = (1, 2, 4, 8, 16)  # of each class
DRAWS = 3  # of each number of shots


@dataclass(frozen=True)
class ProbeData:
    """Embeddings [pictures, dim] and class indices [pictures] of a training and of a test split.

    Of pictures with several vectors, that are mixed for each text, they are `single_vectors`: a probe has no text.
    """

    train: Vectors
    train_targets: Targets
    test: Vectors
    test_targets: Targets
    classes: Sequence[str]


def single_vectors(images: Vectors) -> Vectors:
    """[images, dim] as they are, and of [images, tokens, dim] the mean over the tokens, normalised again."""
    return images if images.ndim == 2 else class_vectors(images)


def linear_probe(dataset: str, data: ProbeData, headline: str = "acc1") -> Result:
    """Choose the penalty on a fifth of the training pictures, then fit all of them and measure the test."""
    strength = _search(data, *split_for_search(data.train_targets))
    return fit_and_score(dataset, data, np.arange(len(data.train)), strength, headline, "linear_probe")


def few_shot(dataset: str, data: ProbeData, headline: str = "acc1") -> list[Result]:
    """The same from a few pictures of each class, the mean of three draws; the penalty is chosen on as many others.

    Numbers for which some class has too few pictures, twice as many, are left out.
    """
    least = np.bincount(data.train_targets, minlength=len(data.classes)).min()
    return [_few_shot_result(dataset, data, number, headline) for number in SHOTS if 2 * number <= least]


def _search(data: ProbeData, fitting: Targets, choosing: Targets) -> float:
    """The strength that does best on the training pictures `choosing` when fitted to those of `fitting`."""

    def score(strength: float) -> float:
        regression = fit(data.train[fitting], data.train_targets[fitting], strength)
        return float(regression.score(data.train[choosing], data.train_targets[choosing]))

    return search_strength(score)


def search_strength(score: Callable[[float], float]) -> float:
    """The strength with the best score: seven points over twelve decades, then ever closer around the best.

    The last step is an eighth of a decade. Of equals, the strongest penalty.
    """
    scores: dict[int, float] = {}
    step, around = FIRST_STEP, range(0, len(STRENGTHS), FIRST_STEP)
    while True:
        for place in around:
            if 0 <= place < len(STRENGTHS) and place not in scores:
                scores[place] = score(float(STRENGTHS[place]))
        best = max(scores, key=lambda place: (scores[place], place))
        if step == 1:
            return float(STRENGTHS[best])
        step //= 2
        around = range(best - step, best + step + 1, step)


def fit(vectors: Vectors, targets: Targets, strength: float) -> LogisticRegression:
    """Multinomial logistic regression by L-BFGS; `strength` is that of the penalty, 1 / C."""
    regression = LogisticRegression(C=1 / strength, max_iter=ITERATIONS, random_state=0)
    with limited_threads(vectors):
        return regression.fit(vectors, targets)


def _few_shot_result(dataset: str, data: ProbeData, number: int, headline: str) -> Result:
    draws = []
    for draw in range(DRAWS):
        fitting, choosing = draw_shots(data.train_targets, number, draw)
        strength = _search(data, fitting, choosing)
        draws.append(fit_and_score(f"{dataset}, {number} shots", data, fitting, strength, headline, "few_shot"))
    return mean_of_draws(draws, {"shots": number})


def mean_of_draws(draws: Sequence[Result], settings: Mapping[str, Any]) -> Result:
    """The mean of several results of one name; `settings` and each draw's headline figure are its settings."""
    mean = {name: float(np.mean([draw.metrics[name] for draw in draws])) for name in draws[0].metrics}
    first, values = draws[0], [draw.value for draw in draws]
    # The widest of the draws' intervals and of the draws themselves.
    interval = min(min(d.interval[0] for d in draws), *values), max(max(d.interval[1] for d in draws), *values)
    told = {**settings, "draws": [round(value, 6) for value in values]}
    return replace(first, interval=interval, metrics=mean, per_class={}, settings=told)


def fit_and_score(dataset: str, data: ProbeData, fitting: Targets, strength: float, headline: str, task: str) -> Result:
    """Fit the training rows `fitting` and score the test; a class that none of them has is never chosen."""
    regression = fit(data.train[fitting], data.train_targets[fitting], strength)
    scores = np.full((len(data.test), len(data.classes)), -np.inf, np.float32)
    logits = regression.decision_function(data.test)
    if logits.ndim == 1:  # two classes
        logits = np.stack([-logits, logits], axis=1)
    scores[:, regression.classes_] = logits
    result = classify(dataset, scores, data.test_targets, data.classes, headline=headline, task=task)
    return Result(**{**vars(result), "settings": {"C": 1 / strength, "training_pictures": len(fitting)}})


def split_for_search(targets: Targets) -> tuple[Targets, Targets]:
    """Indices to fit and indices to choose by; classes of one picture are only fitted."""
    several = np.flatnonzero(np.bincount(targets)[targets] > 1)
    size = max(VALIDATION, len(set(targets)) / max(1, len(several)))
    if size >= 0.5:
        raise ValueError("a linear probe needs at least two training pictures of most classes")
    splitter = StratifiedShuffleSplit(1, test_size=size, random_state=0)
    _, chosen = next(splitter.split(several, targets[several]))
    choosing = several[chosen]
    return np.setdiff1d(np.arange(len(targets)), choosing), choosing


def draw_shots(targets: Targets, number: int, draw: int) -> tuple[Targets, Targets]:
    """Indices of so many pictures of each class to fit, and of as many others to choose by; another `draw`, others."""
    numbers = np.random.default_rng([draw, number])
    drawn = [numbers.permutation(np.flatnonzero(targets == kind))[: 2 * number] for kind in np.unique(targets)]
    return np.concatenate([one[:number] for one in drawn]), np.concatenate([one[number:] for one in drawn])
