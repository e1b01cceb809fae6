"""Evaluate a model: all tasks on all data sets, with each picture embedded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from model.embedder import Embedder, ReadBytes, Vectors
from model.suggestions import did_you_mean
from model.zeroshot import class_vectors, default_templates, template_vectors
from training.evaluation.datasets import DataError, DatasetSpec, Split
from training.evaluation.initial_head import initial_head
from training.evaluation.known_classes import KnownClasses, restrict_to_classes
from training.evaluation.linear_probe import ProbeData, few_shot, linear_probe, single_vectors
from training.evaluation.paraphrase import PARAPHRASE, measure_paraphrases
from training.evaluation.paraphrase_pairs import NO_PAIRS, PairSample, pairs_of_split
from training.evaluation.results import Result
from training.evaluation.transfer import transfer
from training.evaluation.zeroshot import classify, classify_many, retrieve, select_templates
from training.progress import announced, track

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationOptions:
    """What to measure. Without tasks: zero-shot where there are classes, retrieval where there are captions."""

    tasks: Sequence[str] = ()
    templates: Sequence[str] | None = None  # instead of the data set's own
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)  # names for prompts, by class
    select_templates: bool = False  # keep those that help on the training split
    train: DatasetSpec | None = None  # where the data set has no training split of its own
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of paraphrases, by class in lower case
    paraphrases: Mapping[str, PairSample] = field(default_factory=dict)  # further pairs, by what they are called


# Called with each zero-shot or retrieval result, its split, the embeddings of its pictures as the embedder gives them
# and, where there are classes, the cosines [images, classes].
ResultCallback = Callable[[Result, Split, Vectors, Vectors | None], None]


def evaluate(
    embedder: Embedder,
    datasets: Sequence[DatasetSpec],
    options: EvaluationOptions,
    on_result: ResultCallback | None = None,
) -> list[Result]:
    """Run all tasks on all data sets. Raises DataError naming the data set that a task cannot be run on."""
    if "robustness" in options.tasks and len(datasets) < 2:
        raise DataError("robustness compares: name the clean data set first, and one or more shifted ones after it")
    evaluators = [_DatasetEvaluator(embedder, dataset, options, on_result) for dataset in datasets]
    results = [result for each in evaluators for result in each.results()]
    _warn_of_unknown_names(options, {name for each in evaluators for name in each.classes})
    if "paraphrase" in options.tasks and not any(result.task == PARAPHRASE for result in results):
        raise DataError(NO_PAIRS)
    if not results and not any(each.known.left_out for each in evaluators):
        raise DataError(f"nothing to measure by {', '.join(options.tasks)}: there are no classes, or no captions")
    return results + (_robustness(embedder, datasets, options) if "robustness" in options.tasks else [])


class _DatasetEvaluator:
    """The tasks on one data set."""

    def __init__(
        self,
        embedder: Embedder,
        dataset: DatasetSpec,
        options: EvaluationOptions,
        on_result: ResultCallback | None = None,
    ) -> None:
        self.embedder, self.dataset, self.options, self._on_result = embedder, dataset, options, on_result
        self._embeddings: dict[ReadBytes, Vectors] = {}
        self.classes: set[str] = set()  # those that were named in a prompt
        self.known = KnownClasses(embedder, options.class_names)
        self.card = dataset.card
        self.headline = self.card.metric if self.card else "acc1"

    def results(self) -> Iterator[Result]:
        splits = self.dataset.read("test")
        for suffix, split in splits.items():
            name = f"{self.dataset.name}{suffix}"
            images = self._embed(split, name)
            if split.captions:
                asked_for = "retrieval" in self.options.tasks
                if self._is_requested("retrieval") and self.known.reads_captions(name, asked_for=asked_for):
                    embed, cosines = self.embedder.embed_texts, self.embedder.cosines
                    yield self._complete(retrieve(name, images, split.captions, embed, cosines), split, images)
                continue
            if self._is_requested("zeroshot", "robustness"):
                part = self.known.part(name, split, images)
                if part is not None:
                    result, scores = self.zeroshot(name, *part)
                    yield self._complete(result, *part, scores)
            if {"linear-probe", "few-shot", "transfer"} & set(self.options.tasks):
                for result in self._linear_probes(name, suffix, split, images):
                    yield replace(result, skipped=dict(split.skipped.counts))
        if "paraphrase" in self.options.tasks:
            if self.known.names_only:
                raise DataError(f"{self.dataset.name}: the model knows categories by name only, and no paraphrases")
            yield from self._paraphrases(splits)

    def _embed(self, split: Split, name: str) -> Vectors:
        """[images, dim]; pictures that an earlier split of the same samples had are not embedded again."""
        missing = [image for image in split.images if image not in self._embeddings]
        if missing:
            self._embeddings |= zip(
                missing, self.embedder.embed_images(missing, partial(track, what=name)), strict=True
            )
        return np.stack([self._embeddings[image] for image in split.images])

    def _is_requested(self, *tasks: str) -> bool:
        return not self.options.tasks or bool(set(tasks) & set(self.options.tasks))

    def _complete(self, result: Result, split: Split, images: Vectors, scores: Vectors | None = None) -> Result:
        """Add what was skipped, and call on_result."""
        result = replace(result, skipped=dict(split.skipped.counts))
        if self._on_result is not None:
            self._on_result(result, split, images, scores)
        return result

    def zeroshot(self, name: str, split: Split, images: Vectors) -> tuple[Result, Vectors]:
        templates = self._templates(split)
        names = [self.known.among(names) for names in self._prompt_names(split)]
        vectors = template_vectors(self.embedder.embed_texts, names, templates)
        accuracies: list[float] = []
        if self.options.select_templates:
            train = self._train("", split)
            chosen, accuracies = select_templates(
                self.embedder.embed_images(train.images, partial(track, what=f"{name}, train")),
                train.targets,
                vectors,
                templates,
                self.embedder.cosines,
            )
            vectors = vectors[[templates.index(template) for template in chosen]]
            templates = chosen
        class_embeddings = class_vectors(vectors.transpose(1, 0, 2))
        scores = self.embedder.cosines(images, class_embeddings)
        settings: dict[str, Any] = {"templates": templates}
        if accuracies:
            settings["training_acc1"] = [round(value, 4) for value in accuracies]
        if split.truth is not None:
            result = classify_many(name, scores, split.truth, split.classes)
        else:
            result = classify(name, scores, split.targets, split.classes, headline=self.headline)
        return replace(result, settings=settings), scores

    def _paraphrases(self, splits: Mapping[str, Split]) -> Iterator[Result]:
        """Of the pairs that each split gives, and of further ones among the pictures of the largest."""
        largest = max(splits, key=lambda suffix: len(splits[suffix]))
        measured = 0
        for suffix, split in splits.items():
            name = f"{self.dataset.name}{suffix}"
            names = [] if split.captions else self._prompt_names(split)
            found = pairs_of_split(split, names, self._templates(split), self.options.synonyms)
            further = self.options.paraphrases if suffix == largest else {}
            for what, sample in {**found, **further}.items():
                yield self._overlap(f"{name}{what}", split, self._embed(split, name), sample)
                measured += 1
        if not measured:
            log.warning("%s: %s", self.dataset.name, NO_PAIRS)

    def _overlap(self, name: str, split: Split, images: Vectors, sample: PairSample) -> Result:
        if warning := sample.warning(name):
            log.warning("%s", warning)
        embed, cosines = self.embedder.embed_texts, self.embedder.cosines
        result = measure_paraphrases(name, images, sample, embed, cosines, split.classes)
        return replace(result, skipped=dict(split.skipped.counts + sample.skipped.counts))

    def _linear_probes(self, name: str, suffix: str, split: Split, images: Vectors) -> Iterator[Result]:
        if split.truth is not None:
            raise DataError(f"{name}: a linear probe of several classes a picture is not offered")
        train = self._train(suffix, split)
        train_vectors = self.embedder.embed_images(train.images, partial(track, what=f"{name}, train"))
        vectors = single_vectors(train_vectors), single_vectors(images)
        data = ProbeData(vectors[0], train.targets, vectors[1], split.targets, split.classes)
        if "linear-probe" in self.options.tasks:
            with announced(f"{name}: linear probe"):
                result = linear_probe(name, data, self.headline)
            yield result
        if "few-shot" in self.options.tasks:
            with announced(f"{name}: few-shot"):
                results = list(few_shot(name, data, headline=self.headline))
            yield from results
        if "transfer" in self.options.tasks:
            with announced(f"{name}: transfer"):
                head = initial_head(self.embedder, self._prompt_names(split), self._templates(split))
                results = list(transfer(name, data, head, self.headline))
            yield from results

    def _train(self, suffix: str, test: Split) -> Split:
        """The training split, its classes numbered as those of the test."""
        found = (self.options.train or self.dataset).read("train")
        if suffix not in found or not found[suffix].classes:
            raise DataError(f"{self.dataset.name}{suffix}: the training pictures have no classes")
        train = found[suffix]
        index = {name: number for number, name in enumerate(test.classes)}
        known = [i for i, target in enumerate(train.targets) if train.classes[int(target)] in index]
        if not known:
            raise DataError(f"{self.dataset.name}: training and test have no class in common")
        targets = np.array([index[train.classes[int(train.targets[i])]] for i in known])
        return Split([train.images[i] for i in known], test.classes, targets)

    def _templates(self, split: Split) -> list[str]:
        own = self.card.prompt_templates() if self.card else list(split.templates)
        default = default_templates(self.embedder.bundle)
        # Around the name of a category nothing can stand.
        return list(default if self.known.names_only else self.options.templates or own or default)

    def _prompt_names(self, split: Split) -> list[list[str]]:
        self.classes.update(split.classes)
        return [self.known.names(name) for name in split.classes]


def _warn_of_unknown_names(options: EvaluationOptions, classes: set[str]) -> None:
    """Warn of names given for what is no class: most likely a misspelt class."""
    for name in sorted(options.class_names.keys() - classes) if classes else ():
        log.warning("--class-names: %r is no class of what was measured. %s", name, did_you_mean(name, classes))


def _robustness(embedder: Embedder, datasets: Sequence[DatasetSpec], options: EvaluationOptions) -> list[Result]:
    """Top-1 on each shifted data set and on the first, clean one, among the classes of the shifted one."""
    clean = _DatasetEvaluator(embedder, datasets[0], options)
    reference = clean.dataset.read("test")[""]
    images = embedder.embed_images(reference.images, partial(track, what=clean.dataset.name))
    found = []
    for dataset in datasets[1:]:
        shifted = _DatasetEvaluator(embedder, dataset, options)
        every = shifted.dataset.read("test")[""]
        part = shifted.known.part(
            dataset.name, every, embedder.embed_images(every.images, partial(track, what=dataset.name))
        )
        if part is None:
            continue
        on_shifted, _ = shifted.zeroshot(dataset.name, *part)
        on_clean, _ = clean.zeroshot(clean.dataset.name, *restrict_to_classes(reference, images, part[0].classes))
        metrics = {
            "acc1": on_shifted.metrics["acc1"],
            "acc1_clean": on_clean.metrics["acc1"],
            "acc1_lost": on_clean.metrics["acc1"] - on_shifted.metrics["acc1"],
        }
        found.append(
            Result(
                f"{dataset.name} against {clean.dataset.name}",
                "robustness",
                on_shifted.images,
                on_shifted.choices,
                "acc1",
                on_shifted.interval,
                metrics,
                on_shifted.per_class,
            )
        )
    return found
