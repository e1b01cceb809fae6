"""What is measured of one bundle: every task that the data allow, and what it costs to keep and to ask."""

from __future__ import annotations

import io
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from model.bundle import Bundle
from model.embedder import Embedder
from training.comparison.config import Measure
from training.config import TrainConfig
from training.data.captions import load_synonyms
from training.evaluation.datasets import DatasetSpec
from training.evaluation.evaluator import EvaluationOptions, ResultCallback, evaluate
from training.evaluation.paraphrase import K
from training.evaluation.paraphrase_pairs import pairs_of_split
from training.evaluation.results import Result

log = logging.getLogger(__name__)

OF_EVERY_TEST = ("zeroshot", "retrieval")
ROBUSTNESS, PROBE, PARAPHRASE = "robustness", "linear-probe", "paraphrase"
ON_REQUEST = ("few-shot", "transfer")  # other heads on the vectors, which take long
WARM_UP, REPEATS = 3, 15  # of a latency
TEXT = "a photo of a dog"


@dataclass
class BundleMeasurement:
    """A measurement as `train_and_export` takes it; `refused` says by test why a task could not be run on it."""

    measure: Measure
    base: Path
    config: TrainConfig  # of the run: its templates and synonyms
    refused: dict[str, str] = field(default_factory=dict)

    def __call__(self, embedder: Embedder, on_result: ResultCallback) -> list[Result]:
        """The results of all tests, one after the other."""
        tests = {name: DatasetSpec(name, paths, self.base) for name, paths in (self.measure.test or {}).items()}
        results = [result for spec in tests.values() for result in self._of_test(embedder, spec, on_result)]
        if self._is_asked_for(ROBUSTNESS):
            for shifted, clean in self.measure.robustness.items():
                run = partial(self._run, embedder, [tests[clean], tests[shifted]], None)
                found = self._try([ROBUSTNESS], shifted, run)
                results += [result for result in found if result.task == ROBUSTNESS]
        return results

    def _of_test(self, embedder: Embedder, spec: DatasetSpec, on_result: ResultCallback) -> list[Result]:
        tasks = [task for task in OF_EVERY_TEST if self._is_asked_for(task)]
        probed = spec.name in self.measure.probe
        tasks += [PROBE] * (probed and self._is_asked_for(PROBE))
        tasks += [task for task in ON_REQUEST if probed and task in self.measure.tasks]
        tasks += [PARAPHRASE] * (PARAPHRASE in self.measure.tasks or self._allows_paraphrases(spec))
        return self._try(tasks, spec.name, partial(self._run, embedder, [spec], on_result)) if tasks else []

    def _allows_paraphrases(self, spec: DatasetSpec) -> bool:
        """Whether they are measured where nothing is said: its captions, synonyms or templates make pairs."""
        try:
            splits = spec.read("test").values() if not self.measure.tasks else []
        except (ValueError, OSError):  # which is told by what else cannot be measured
            return False
        return any(
            len(split) > K
            and pairs_of_split(split, [[name] for name in split.classes], self.config.templates, self._synonyms)
            for split in splits
        )

    @cached_property
    def _synonyms(self) -> dict[str, list[str]]:
        file = self.config.data.synonyms
        return load_synonyms(self.base / file if file else None)

    def _is_asked_for(self, task: str) -> bool:
        return not self.measure.tasks or task in self.measure.tasks

    def _run(
        self, embedder: Embedder, specs: Sequence[DatasetSpec], on_result: ResultCallback | None, tasks: Sequence[str]
    ) -> list[Result]:
        learned_from = self.measure.probe.get(specs[-1].name)
        train = DatasetSpec(f"{specs[-1].name}, train", learned_from, self.base) if learned_from else None
        options = EvaluationOptions(tasks, self.config.templates, train=train, synonyms=self._synonyms)
        return evaluate(embedder, specs, options, on_result)

    def _try(self, tasks: Sequence[str], name: str, run: Callable[[Sequence[str]], list[Result]]) -> list[Result]:
        """All tasks together, which embeds each picture once; where one is refused, each alone."""
        try:
            return run(tasks)
        except (ValueError, OSError) as error:  # what the evaluation, a tokenizer or a picture refuses
            if len(tasks) == 1:
                self.refused[f"{name}, {tasks[0]}"] = str(error)
                log.warning("%s, %s: %s", name, tasks[0], error)
                return []
        return [result for task in tasks for result in self._try([task], name, run)]


def measure_costs(bundle: Bundle) -> dict[str, float]:
    """Parameters, bytes of the bundle, and the milliseconds that one picture and one text take, from file to vector.

    The latencies are medians, by as many threads as the process has cores; that of texts is left out for a bundle that
    does not know the text which is asked for.
    """
    embedder = Embedder(bundle)
    costs = {
        "parameters": float(bundle.manifest.source["parameters"]),
        "bundle_bytes": float(sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())),
        "image_ms": _latency_ms(partial(embedder.embed_images, [_blank_image(bundle)])),
    }
    with suppress(ValueError):
        costs["text_ms"] = _latency_ms(partial(embedder.embed_texts, [TEXT]))
    return costs


def _latency_ms(ask: Callable[[], object]) -> float:
    taken = []
    for _ in range(WARM_UP + REPEATS):
        began = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken[WARM_UP:])


def _blank_image(bundle: Bundle) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (bundle.image_size, bundle.image_size), "white").save(file, "PNG")
    return file.getvalue()
