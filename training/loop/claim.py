"""Which run a folder holds: another configuration must not continue it, a better set of tests may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.config import ConfigError, TrainConfig
from training.loop.checkpoint import checkpoints

CONFIG = "config.json"
# What changes no weight: a finished run can be measured or exported again with other values of these.
FREE = {"test", "templates", "checkpoint_every", "keep_checkpoints", "weights_dtype"}
# How the same is computed: a run can go on elsewhere, with other roundings.
FREE |= {"device", "parallel", "accumulate", "gradient_checkpointing", "compile"}


def check_claim(run: Path, config: TrainConfig) -> None:
    """Raise ConfigError if `run` has a checkpoint of a run with another configuration."""
    file = run / CONFIG
    if not checkpoints(run) or not file.exists():
        return
    try:
        earlier = TrainConfig.model_validate_json(file.read_text("utf-8"))
    except ValidationError as error:
        raise ConfigError(f"{file} is not a configuration of this version: choose another --output") from error
    if _binding(earlier) != _binding(config):
        raise ConfigError(f"{run} holds a run with another configuration: choose another --output, or delete it")


def claim(run: Path, config: TrainConfig) -> None:
    """Write the configuration into the run's folder."""
    run.mkdir(parents=True, exist_ok=True)
    draft = run / f"{CONFIG}.partial"
    draft.write_text(config.model_dump_json(indent=2), "utf-8")
    draft.replace(run / CONFIG)


def _binding(config: TrainConfig) -> dict[str, Any]:
    fields = config.model_dump()
    flat = {**fields.pop("data"), **fields}
    return {name: value for name, value in flat.items() if name not in FREE}
