"""One run from end to end: train, choose, export, evaluate as served, and write the figures into the bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from model.bundle import Bundle, seal
from model.export import export_bundle
from training.config import TrainConfig
from training.evaluate import Embedder, evaluate_shards
from training.progress import console
from training.report import results_table
from training.trainer import Trainer

RESULTS = "results.json"


def train_and_export(config: TrainConfig, base: Path, run: Path) -> Bundle:
    """Train in the folder `run`; shard patterns are relative to `base`. Returns the bundle in `run`/bundle."""
    trainer = Trainer(config, run, base)
    network = trainer.train()
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
    results = evaluate_shards(Embedder(bundle), config.data.test, base, config.templates)
    (run / RESULTS).write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    console.print(results_table(results))
    manifest = bundle.manifest.model_dump(mode="json", exclude={"files"})
    seal(draft, {**manifest, "scores": _scores(results)})
    replaced = run / "bundle.replaced"
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    draft.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)
    return Bundle.load(final)


def _scores(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The headline figure of each task, for the manifest."""
    return {
        result["task"]: {
            "metric": "top-1" if "top1" in result else "recall at 1",
            "value": round(result["top1" if "top1" in result else "recall_at_1"], 4),
            "interval": [round(bound, 4) for bound in result["interval"]],
            "pictures": result["pictures"],
        }
        for result in results
    }
