"""Open whatever can be evaluated: a bundle, the folder of a run, or a checkpoint of a format that can be imported."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file

from model.bundle import Bundle
from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint
from model.export.bundle import export_bundle
from model.manifest import MANIFEST
from training.initial_model import build_initial_model
from training.progress import announced
from training.run_categories import stored_vocabulary
from training.run_folder import BEST, read_config


@contextmanager
def open_bundle(model: Path) -> Iterator[Bundle]:
    """The bundle of `model`; of anything else one is exported for as long as the context lasts, as it would be served.

    Raises BundleError, CheckpointError, ConfigError, ExportError.
    """
    if (model / MANIFEST).exists():
        yield Bundle.load(model)
        return
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "bundle"
        with announced(f"exporting {model}"):
            bundle = _export_run(model, to) if (model / BEST).exists() else import_checkpoint(model, to, Options())[0]
        yield bundle


def _export_run(run: Path, to: Path) -> Bundle:
    """Export the best checkpoint so far of a run that still trains."""
    config = read_config(run, "it can be exported only by the version that trains it")
    initial = build_initial_model(config, stored_vocabulary(config, run))
    initial.network.load_state_dict(load_file(run / BEST))
    return export_bundle(
        initial.network,
        to,
        tokenizer=initial.tokenizer,
        preprocessing=initial.preprocessing,
        weights_dtype=config.weights_dtype,
        bundle_id=config.name,
        source={"kind": "a run that is not finished", "run": run.name},
    )
