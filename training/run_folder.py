"""The folder of a run: the names of its files, its checkpoints, and the guard that keeps another run out of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.files import write_atomically
from model.manifest import MANIFEST
from training.config import ConfigError, TrainConfig
from training.config.errors import describe

CONFIG = "config.json"
CATEGORIES = "categories.json"  # of CatLIP: which synset each row of the classifier is
BEST = "best.safetensors"  # the moving average with the best held-out score
NOT_FINITE = "not_finite.json"
CHECKPOINTS = "checkpoints"
_CHECKPOINT = re.compile(r"step-\d{6,}")
# Fields that change no weight: a finished run can be measured or exported again with other values of these.
UNGUARDED = {"data.test", "templates", "checkpoint_every", "keep_checkpoints", "weights_dtype"}
# How the same is computed: a run can go on elsewhere, with other roundings.
UNGUARDED |= {"device", "parallel", "accumulate", "gradient_checkpointing", "compile"}
UNGUARDED |= {"objective.categories.wordnet"}  # where it lies; the vocabulary of the run is compared itself
MAX_DIFFERENCES = 8  # that a message names
ABSENT = "nothing"


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, from the oldest to the newest."""
    folder = run / CHECKPOINTS
    found = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name)] if folder.exists() else []
    return sorted(found, key=step_of)


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint after so many steps is, or will be."""
    return run / CHECKPOINTS / f"step-{step:06d}"


def step_of(checkpoint: Path) -> int:
    """After how many steps it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def guard_run_folder(run: Path, config: TrainConfig) -> None:
    """Raise ConfigError if `run` has a checkpoint of a run with another configuration, naming what differs."""
    file, found = run / CONFIG, list_checkpoints(run)
    if not found or not file.exists():
        return
    earlier = read_config(run, "choose another --output")
    if differences := _differences(earlier, config):
        more = [f"and {len(differences) - MAX_DIFFERENCES} more"] if len(differences) > MAX_DIFFERENCES else []
        lines = "\n  ".join([*differences[:MAX_DIFFERENCES], *more])
        done = step_of(found[-1])
        raise ConfigError(
            f"{run} holds a run with another configuration:\n  {lines}\n{_advice(run, done, earlier.steps)}"
        )


def write_config(run: Path, config: TrainConfig) -> None:
    """Write the configuration into the run's folder, for the guard of later runs."""
    run.mkdir(parents=True, exist_ok=True)
    with write_atomically(run / CONFIG) as draft:
        draft.write_text(config.model_dump_json(indent=2), "utf-8")


def read_config(run: Path, advice: str) -> TrainConfig:
    """The configuration of a run by its folder. Raises ConfigError, with advice, where it is none of this version."""
    file = run / CONFIG
    try:
        return TrainConfig.model_validate_json(file.read_text("utf-8"))
    except ValidationError as error:
        mistakes = "\n  ".join(describe(error, TrainConfig))
        raise ConfigError(f"{file} is not a configuration of this version: {advice}\n  {mistakes}") from error


def _differences(earlier: TrainConfig, config: TrainConfig) -> list[str]:
    """A line for each field that has another value and decides what is learned."""
    old, new = dict(_flat(earlier.model_dump(mode="json"))), dict(_flat(config.model_dump(mode="json")))
    return [
        f"{name}: {old.get(name, ABSENT)} there, {new.get(name, ABSENT)} now"
        for name in dict.fromkeys([*old, *new])
        if old.get(name, ABSENT) != new.get(name, ABSENT) and not _is_unguarded(name)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Values by the dotted paths of their fields."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner:
        yield name, value
    for key, each in inner:
        yield from _flat(each, f"{name}.{key}" if name else str(key))


def _is_unguarded(name: str) -> bool:
    return any(name == field or name.startswith(f"{field}.") for field in UNGUARDED)


def _advice(run: Path, done: int, steps: int) -> str:
    bundle = run / "bundle"
    new = "for a new run name another --output"
    if done < steps:
        return f"It stands at step {done:,} of {steps:,}: with the values there it goes on; {new}"
    if (bundle / MANIFEST).exists():
        return f"It is finished: to train its bundle further, say `start: {bundle}` and no `model`; {new}, too"
    return f"It has done its {steps:,} steps: with the values there it is exported and measured; {new}"
