"""Linear probe and few-shot curves: logistic regression on the image tower's vectors, as in the CLIP paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from training.evaluation.embedding import Vectors
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
class Probe:
    """A split that teaches and one that is measured."""

    train: Vectors
    train_targets: Targets
    test: Vectors
    test_targets: Targets
    classes: Sequence[str]


def linear_probe(dataset: str, probe: Probe, headline: str = "acc1") -> Result:
    """Choose the penalty on a fifth of the training pictures, then fit all of them and measure the test."""
    strength = search(probe, *_halves(probe.train_targets))
    return _measured(dataset, probe, np.arange(len(probe.train)), strength, headline, "linear_probe")


def few_shot(dataset: str, probe: Probe, headline: str = "acc1") -> list[Result]:
    """The same from a few pictures of each class, the mean of three draws; the penalty is chosen on as many others.

    Numbers for which some class has too few pictures, twice as many, are left out.
    """
    least = np.bincount(probe.train_targets, minlength=len(probe.classes)).min()
    return [_of_shots(dataset, probe, number, headline) for number in SHOTS if 2 * number <= least]


def search(probe: Probe, fitting: Targets, choosing: Targets) -> float:
    """The strength that does best on the training pictures `choosing` when fitted to those of `fitting`."""

    def score(strength: float) -> float:
        regression = fit(probe.train[fitting], probe.train_targets[fitting], strength)
        return float(regression.score(probe.train[choosing], probe.train_targets[choosing]))

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
    return regression.fit(vectors, targets)


def _of_shots(dataset: str, probe: Probe, number: int, headline: str) -> Result:
    draws = []
    for draw in range(DRAWS):
        fitting, choosing = _shots(probe.train_targets, number, np.random.default_rng([draw, number]))
        strength = search(probe, fitting, choosing)
        draws.append(_measured(dataset, probe, fitting, strength, headline, "few_shot"))
    mean = {name: float(np.mean([draw.metrics[name] for draw in draws])) for name in draws[0].metrics}
    values = [draw.value for draw in draws]
    settings = {"shots": number, "draws": [round(value, 6) for value in values]}
    first = draws[0]
    # The widest of the draws' intervals and of the draws themselves.
    interval = min(min(d.interval[0] for d in draws), *values), max(max(d.interval[1] for d in draws), *values)
    return Result(
        f"{dataset}, {number} shots", "few_shot", first.pictures, first.choices, headline, interval, mean, {}, settings
    )


def _measured(dataset: str, probe: Probe, fitting: Targets, strength: float, headline: str, task: str) -> Result:
    regression = fit(probe.train[fitting], probe.train_targets[fitting], strength)
    scores = np.full((len(probe.test), len(probe.classes)), -np.inf, np.float32)
    logits = regression.decision_function(probe.test)
    if logits.ndim == 1:  # two classes
        logits = np.stack([-logits, logits], axis=1)
    scores[:, regression.classes_] = logits  # a class that was never shown is never chosen
    result = classify(dataset, scores, probe.test_targets, probe.classes, headline=headline, task=task)
    return Result(**{**vars(result), "settings": {"C": 1 / strength, "training_pictures": len(fitting)}})


def _halves(targets: Targets) -> tuple[Targets, Targets]:
    """Indices to fit and indices to choose by; classes of one picture are only fitted."""
    several = np.flatnonzero(np.bincount(targets)[targets] > 1)
    size = max(VALIDATION, len(set(targets)) / max(1, len(several)))
    if size >= 0.5:
        raise ValueError("a linear probe needs at least two training pictures of most classes")
    splitter = StratifiedShuffleSplit(1, test_size=size, random_state=0)
    _, chosen = next(splitter.split(several, targets[several]))
    choosing = several[chosen]
    return np.setdiff1d(np.arange(len(targets)), choosing), choosing


def _shots(targets: Targets, number: int, numbers: np.random.Generator) -> tuple[Targets, Targets]:
    drawn = [numbers.permutation(np.flatnonzero(targets == kind))[: 2 * number] for kind in np.unique(targets)]
    return np.concatenate([one[:number] for one in drawn]), np.concatenate([one[number:] for one in drawn])
