"""One run from end to end: train, choose, export, evaluate as served, and write the figures into the bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.bundle import Bundle, seal
from model.export import export_bundle
from model.network import Network
from training.config import TrainConfig
from training.evaluation.datasets import Place
from training.evaluation.embedding import Embedder
from training.evaluation.results import Result, as_json
from training.evaluation.running import Wanted, evaluate
from training.loop.metrics import METRICS
from training.loop.trainer import Trainer
from training.progress import console
from training.report.findings import Finder
from training.report.origins import shards_of
from training.report.tables import results_table, told
from training.report.watching import Watching
from training.report.writing import write_report

RESULTS = "results.json"
WATCHED = Watching()


def train_and_export(config: TrainConfig, base: Path, run: Path, watching: Watching = WATCHED) -> Bundle | None:
    """Train in the folder `run`; shard patterns are relative to `base`.

    Returns the bundle in `run`/bundle, or None in a process that only helped the first one to train.
    """
    trainer, network = train(config, base, run, watching)
    if network is None:
        return None
    final, draft = run / "bundle", run / "bundle.partial"
    shutil.rmtree(draft, ignore_errors=True)

    bundle = export_bundle(
        network,
        draft,
        tokenizer=trainer.tokenizer,
        preprocessing=trainer.preprocessing,
        weights_dtype=config.weights_dtype,
        bundle_id=config.name,
        source=trainer.summary(),
    )
    places = tests_of(config, base)
    finder = Finder(Embedder(bundle))
    results = evaluate(finder.embedder, places, Wanted(templates=config.templates), finder) if places else []
    records = [as_json(result, bundle.id, bundle.digest) for result in results]
    (run / RESULTS).write_text(json.dumps(records, indent=2) + "\n", "utf-8")
    console.print(results_table(results))
    manifest = bundle.manifest.model_dump(mode="json", exclude={"files"})
    sealed = seal(draft, {**manifest, "scores": _scores(results)})
    report = write_report(run, sealed, run / METRICS, finder.found, shards_of(config, base))
    replaced = run / "bundle.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    draft.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)
    console.print(f"report: {report}", soft_wrap=True)
    return Bundle.load(final)


def train(config: TrainConfig, base: Path, run: Path, watching: Watching) -> tuple[Trainer, Network | None]:
    """The trainer when it is done, and the network with the best held-out score; only the first process has that."""
    trainer = Trainer(config, run, base)
    if not trainer.processes.first:
        return trainer, trainer.train()
    with watching.of(config, run, trainer.progress.step) as trainer.watchers:
        return trainer, trainer.train()


def tests_of(config: TrainConfig, base: Path) -> list[Place]:
    """The data sets that are measured at the end."""
    return [Place(name, patterns, base) for name, patterns in config.data.test.items()]


def _scores(results: Sequence[Result]) -> dict[str, Any]:
    """The headline figure of each data set, for the manifest."""
    return {
        result.dataset: {
            "metric": told(result.headline),
            "value": round(result.value, 4),
            "interval": [round(bound, 4) for bound in result.interval],
            "pictures": result.pictures,
        }
        for result in results
    }
