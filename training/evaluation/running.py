"""The tasks on the data sets: each picture is embedded once, whatever is asked of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from model.suggestions import did_you_mean
from model.zeroshot import DEFAULT_TEMPLATES, class_vectors
from training.evaluation.datasets import DataError, Place, Split
from training.evaluation.embedding import Embedder, Picture, Vectors, template_vectors
from training.evaluation.probe import Probe, few_shot, linear_probe
from training.evaluation.results import Result
from training.evaluation.selection import select_templates
from training.evaluation.zeroshot import classify, classify_many, retrieve
from training.progress import announced

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is asked for. Without tasks: zero-shot where there are classes, retrieval where there are captions."""

    tasks: Sequence[str] = ()
    templates: Sequence[str] | None = None  # instead of the data set's own
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what else to call a class, by its name
    select_templates: bool = False  # those of them that help on the training split
    train: Place | None = None  # where the data set has no training split of its own


# Is shown what a zero-shot or retrieval figure came from: the result, its split, the vectors of its pictures and, where
# there are classes, their cosines [pictures, classes].
Look = Callable[[Result, Split, Vectors, Vectors | None], None]


def evaluate(embedder: Embedder, places: Sequence[Place], wanted: Wanted, look: Look | None = None) -> list[Result]:
    """Measure all tasks on all places. Raises DataError naming the place that a task cannot be done on."""
    if "robustness" in wanted.tasks and len(places) < 2:
        raise DataError("robustness compares: name the clean data set first, and one or more shifted ones after it")
    measured = [_Measuring(embedder, place, wanted, look) for place in places]
    results = [result for each in measured for result in each.results()]
    _warn_of_unknown_names(wanted, {name for each in measured for name in each.classes})
    if not results:
        raise DataError(f"nothing to measure by {', '.join(wanted.tasks)}: there are no classes, or no captions")
    return results + (_robustness(embedder, places, wanted) if "robustness" in wanted.tasks else [])


class _Measuring:
    """One place."""

    def __init__(self, embedder: Embedder, place: Place, wanted: Wanted, look: Look | None = None) -> None:
        self.embedder, self.place, self.wanted, self._look = embedder, place, wanted, look
        self._known: dict[Picture, Vectors] = {}
        self.classes: set[str] = set()  # those that were named in a prompt
        self.card = place.card
        self.headline = self.card.metric if self.card else "acc1"

    def results(self) -> Iterator[Result]:
        for suffix, split in self.place.read("test").items():
            name = f"{self.place.name}{suffix}"
            pictures = self._embedded(split, name)
            if split.captions:
                if self._asked("retrieval"):
                    yield self._shown(retrieve(name, pictures, split.captions, self.embedder.texts), split, pictures)
                continue
            if self._asked("zeroshot", "robustness"):
                result, scores = self.zeroshot(name, split, pictures)
                yield self._shown(result, split, pictures, scores)
            if {"linear-probe", "few-shot"} & set(self.wanted.tasks):
                for result in self._probes(name, suffix, split, pictures):
                    yield replace(result, skipped=dict(split.skipped.counts))

    def _embedded(self, split: Split, name: str) -> Vectors:
        """What was embedded for an earlier split of the same samples is not embedded again."""
        fresh = [picture for picture in split.pictures if picture not in self._known]
        if fresh:
            self._known |= zip(fresh, self.embedder.pictures(fresh, name), strict=True)
        return np.stack([self._known[picture] for picture in split.pictures])

    def _asked(self, *tasks: str) -> bool:
        return not self.wanted.tasks or bool(set(tasks) & set(self.wanted.tasks))

    def _shown(self, result: Result, split: Split, pictures: Vectors, scores: Vectors | None = None) -> Result:
        result = replace(result, skipped=dict(split.skipped.counts))
        if self._look is not None:
            self._look(result, split, pictures, scores)
        return result

    def zeroshot(self, name: str, split: Split, pictures: Vectors) -> tuple[Result, Vectors]:
        templates = self._templates(split)
        vectors = template_vectors(self.embedder.texts, self._names(split), templates)
        accuracies: list[float] = []
        if self.wanted.select_templates:
            train = self._train("", split)
            chosen, accuracies = select_templates(
                self.embedder.pictures(train.pictures, f"{name}, train"), train.targets, vectors, templates
            )
            vectors = vectors[[templates.index(template) for template in chosen]]
            templates = chosen
        words = class_vectors(vectors.transpose(1, 0, 2))
        scores = pictures @ words.T
        settings: dict[str, Any] = {"templates": templates}
        if accuracies:
            settings["training_acc1"] = [round(value, 4) for value in accuracies]
        if split.truth is not None:
            result = classify_many(name, scores, split.truth, split.classes)
        else:
            result = classify(name, scores, split.targets, split.classes, headline=self.headline)
        return replace(result, settings=settings), scores

    def _probes(self, name: str, suffix: str, split: Split, pictures: Vectors) -> Iterator[Result]:
        if split.truth is not None:
            raise DataError(f"{name}: a linear probe of several classes a picture is not offered")
        train = self._train(suffix, split)
        taught = self.embedder.pictures(train.pictures, f"{name}, train")
        probe = Probe(taught, train.targets, pictures, split.targets, split.classes)
        if "linear-probe" in self.wanted.tasks:
            with announced(f"{name}: linear probe"):
                result = linear_probe(name, probe, self.headline)
            yield result
        if "few-shot" in self.wanted.tasks:
            with announced(f"{name}: few-shot"):
                results = list(few_shot(name, probe, headline=self.headline))
            yield from results

    def _train(self, suffix: str, test: Split) -> Split:
        """The training split, its classes numbered as those of the test."""
        found = (self.wanted.train or self.place).read("train")
        if suffix not in found or not found[suffix].classes:
            raise DataError(f"{self.place.name}{suffix}: the training pictures have no classes")
        train = found[suffix]
        index = {name: number for number, name in enumerate(test.classes)}
        known = [i for i, target in enumerate(train.targets) if train.classes[int(target)] in index]
        if not known:
            raise DataError(f"{self.place.name}: training and test have no class in common")
        targets = np.array([index[train.classes[int(train.targets[i])]] for i in known])
        return Split([train.pictures[i] for i in known], test.classes, targets)

    def _templates(self, split: Split) -> list[str]:
        own = self.card.prompt_templates() if self.card else list(split.templates)
        return list(self.wanted.templates or own or DEFAULT_TEMPLATES)

    def _names(self, split: Split) -> list[list[str]]:
        self.classes.update(split.classes)
        return [list(self.wanted.names.get(name, [name])) for name in split.classes]


def _warn_of_unknown_names(wanted: Wanted, classes: set[str]) -> None:
    """Other names for what is no class change nothing, which is most likely not what was meant."""
    for name in sorted(wanted.names.keys() - classes) if classes else ():
        log.warning("--class-names: %r is no class of what was measured. %s", name, did_you_mean(name, classes))


def _robustness(embedder: Embedder, places: Sequence[Place], wanted: Wanted) -> list[Result]:
    """Each shifted data set beside the first one: among the classes that the shifted one has, in both."""
    clean = _Measuring(embedder, places[0], wanted)
    reference = clean.place.read("test")[""]
    pictures = embedder.pictures(reference.pictures, clean.place.name)
    found = []
    for place in places[1:]:
        shifted = _Measuring(embedder, place, wanted)
        split = shifted.place.read("test")[""]
        there, _ = shifted.zeroshot(place.name, split, embedder.pictures(split.pictures, place.name))
        here, _ = clean.zeroshot(clean.place.name, *_among(reference, pictures, split.classes))
        metrics = {
            "acc1": there.metrics["acc1"],
            "acc1_clean": here.metrics["acc1"],
            "acc1_lost": here.metrics["acc1"] - there.metrics["acc1"],
        }
        found.append(
            Result(
                f"{place.name} against {clean.place.name}", "robustness", there.pictures, there.choices, "acc1",
                there.interval, metrics, there.per_class,
            )
        )  # fmt: skip
    return found


def _among(split: Split, pictures: Vectors, classes: Sequence[str]) -> tuple[Split, Vectors]:
    """The pictures of those classes only, and those classes only to choose from."""
    missing = sorted(set(classes) - set(split.classes))
    if missing:
        raise DataError(f"the clean data set does not have the classes {', '.join(missing[:3])} of the shifted one")
    index = {name: number for number, name in enumerate(classes)}
    kept = [i for i, target in enumerate(split.targets) if split.classes[int(target)] in index]
    targets = np.array([index[split.classes[int(split.targets[i])]] for i in kept])
    return replace(split, pictures=[split.pictures[i] for i in kept], classes=classes, targets=targets), pictures[kept]
