"""One run from end to end: train, choose, export, evaluate as served, and write the figures into the bundle."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model.bundle import Bundle, write_manifest
from model.embedder import Embedder
from model.export.bundle import export_bundle
from model.files import replace_folder
from model.manifest import BundleError
from model.network import Network
from training.config import TrainConfig
from training.evaluation.datasets import DatasetSpec
from training.evaluation.evaluator import EvaluationOptions, ResultCallback, evaluate
from training.evaluation.results import HELD_OUT, Comparison, Result, compare_results, to_record
from training.loop.setup import setup
from training.loop.trainer import Trainer
from training.metrics import METRICS
from training.progress import announced, console
from training.report.attributions import training_shards
from training.report.costs import PeakMemory
from training.report.findings import FindingsCollector
from training.report.loggers import LoggerConfig
from training.report.run_report import write_report
from training.report.tables import comparison_table, metric_name, results_table

log = logging.getLogger(__name__)

RESULTS = "results.json"
LOGGERS = LoggerConfig()
# Measures what was exported; called with each zero-shot or retrieval result as `evaluate` calls it.
Measurement = Callable[[Embedder, ResultCallback], list[Result]]


def train_and_export(
    config: TrainConfig,
    base: Path,
    run: Path,
    loggers: LoggerConfig = LOGGERS,
    measurement: Measurement | None = None,
) -> Bundle | None:
    """Train in the folder `run`; shard patterns are relative to `base`.

    `measurement` takes the place of the tests of the configuration. Returns the bundle in `run`/bundle, or None in a
    process that only helped the first one to train.
    """
    trainer, network = train(config, base, run, loggers)
    if network is None:
        return None
    with replace_folder(run / "bundle") as draft:
        with announced("exporting the best checkpoint"):
            bundle = export_bundle(
                network,
                draft,
                tokenizer=trainer.initial.tokenizer,
                preprocessing=trainer.initial.preprocessing,
                weights_dtype=config.weights_dtype,
                bundle_id=config.name,
                source=trainer.summary(),
            )
        report = _evaluate(bundle, trainer, base, measurement)
    console.print(f"report: {report}", soft_wrap=True)
    return Bundle.load(run / "bundle")


def _evaluate(bundle: Bundle, trainer: Trainer, base: Path, measurement: Measurement | None) -> Path:
    """Measure the bundle on the tests, write its scores into it, and write the report; returns the report's path."""
    config, run = trainer.config, trainer.run
    datasets = tests_of(config, base)
    collector = FindingsCollector(Embedder(bundle))
    options = EvaluationOptions(templates=config.templates)
    if measurement is not None:
        results = measurement(collector.embedder, collector)
    else:
        results = evaluate(collector.embedder, datasets, options, collector) if datasets else []
    comparisons = _compare_with_start(trainer, base, results)
    records = [to_record(result, bundle.id, bundle.digest) for result in results]
    (run / RESULTS).write_text(json.dumps(records, indent=2) + "\n", "utf-8")
    console.print(results_table(results), soft_wrap=True, markup=False)
    print_comparison(comparisons)
    manifest = bundle.manifest.model_dump(mode="json", exclude={"files"})
    sealed = write_manifest(bundle.path, {**manifest, "scores": _scores(results, comparisons)})
    with announced("writing the report"):
        return write_report(run, sealed, run / METRICS, collector.findings, training_shards(config, base), comparisons)


def train(config: TrainConfig, base: Path, run: Path, loggers: LoggerConfig) -> tuple[Trainer, Network | None]:
    """The trainer when it is done, and the network with the best held-out score; only the first process has that."""
    trainer = setup(config, run, base)
    if not trainer.processes.first:
        return trainer, trainer.fit()
    with loggers.open(config, run, trainer.state.step) as opened:
        trainer.loggers = [*opened, PeakMemory(run)]
        return trainer, trainer.fit()


def tests_of(config: TrainConfig, base: Path) -> list[DatasetSpec]:
    """The data sets that are measured at the end."""
    return [DatasetSpec(name, patterns, base) for name, patterns in config.data.test.items()]


def _compare_with_start(trainer: Trainer, base: Path, results: Sequence[Result]) -> list[Comparison]:
    """What a bundle that was trained further gained and lost: the start is measured as the result was.

    With another text tower it is another model, which is not compared.
    """
    config, state = trainer.config, trainer.state
    if config.start is None or config.text is not None:
        return []
    held_out = []
    if state.start_score is not None:
        scores = state.start_score, state.best_score
        held_out = [Comparison(HELD_OUT, "acc1", len(trainer.holdout), *scores)]
    if not results or not config.data.test:
        return held_out
    try:
        start = Bundle.load(Path(config.start))
    except BundleError as error:
        log.warning("what was before cannot be measured: %s", error)
        return held_out
    if start.digest != trainer.summary()["from_digest"]:
        log.warning("what was before cannot be measured: %s is not what it was when the run began", config.start)
        return held_out
    console.print("measuring the start on the same pictures")
    before = evaluate(Embedder(start), tests_of(config, base), EvaluationOptions(templates=config.templates))
    return held_out + compare_results(before, results)


def print_comparison(compared: Sequence[Comparison]) -> None:
    """Print what changed, and in capitals what became worse."""
    if not compared:
        return
    console.print(f"\n{comparison_table(compared)}", soft_wrap=True, markup=False)
    for each in compared:
        if each.is_worse:
            console.print(f"WORSE THAN THE START: {each}", style="bold red", soft_wrap=True, markup=False)


def _scores(results: Sequence[Result], compared: Sequence[Comparison]) -> dict[str, Any]:
    """The headline figure of each data set, for the manifest; of what was trained further what was before, too."""
    before = {each.dataset: each for each in compared}
    first = {result.dataset: result for result in reversed(results)}  # zero-shot, where there is also a probe
    return {
        result.dataset: {
            "metric": metric_name(result.headline),
            "value": round(result.value, 4),
            "interval": [round(bound, 4) for bound in result.interval],
            "pictures": result.images,
            **(_change(before[result.dataset]) if result.dataset in before else {}),
        }
        for result in results
        if result is first[result.dataset]
    }


def _change(compared: Comparison) -> dict[str, float]:
    return {"before": round(compared.before, 4), "difference": round(compared.after - compared.before, 4)}
