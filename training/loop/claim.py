"""Which run a folder holds: another configuration must not continue it, a better set of tests may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.manifest import MANIFEST
from training.config import ConfigError, TrainConfig
from training.config.errors import describe
from training.loop.checkpoint import checkpoints

CONFIG = "config.json"
# What changes no weight: a finished run can be measured or exported again with other values of these.
FREE = {"data.test", "templates", "checkpoint_every", "keep_checkpoints", "weights_dtype"}
# How the same is computed: a run can go on elsewhere, with other roundings.
FREE |= {"device", "parallel", "accumulate", "gradient_checkpointing", "compile"}
SHOWN = 8  # differences that a message names
ABSENT = "nothing"


def check_claim(run: Path, config: TrainConfig) -> None:
    """Raise ConfigError if `run` has a checkpoint of a run with another configuration, naming what differs."""
    file, there = run / CONFIG, checkpoints(run)
    if not there or not file.exists():
        return
    try:
        earlier = TrainConfig.model_validate_json(file.read_text("utf-8"))
    except ValidationError as error:
        wrong = "\n  ".join(describe(error, TrainConfig))
        raise ConfigError(
            f"{file} is not a configuration of this version: choose another --output\n  {wrong}"
        ) from error
    if differences := _differences(earlier, config):
        more = [f"and {len(differences) - SHOWN} more"] if len(differences) > SHOWN else []
        lines = "\n  ".join([*differences[:SHOWN], *more])
        done = int(there[-1].name.removeprefix("step-"))
        raise ConfigError(
            f"{run} holds a run with another configuration:\n  {lines}\n{_what_to_do(run, done, earlier.steps)}"
        )


def claim(run: Path, config: TrainConfig) -> None:
    """Write the configuration into the run's folder."""
    run.mkdir(parents=True, exist_ok=True)
    draft = run / f"{CONFIG}.partial"
    draft.write_text(config.model_dump_json(indent=2), "utf-8")
    draft.replace(run / CONFIG)


def _differences(earlier: TrainConfig, config: TrainConfig) -> list[str]:
    """A line for each field that has another value and decides what is learned."""
    old, new = dict(_flat(earlier.model_dump(mode="json"))), dict(_flat(config.model_dump(mode="json")))
    return [
        f"{name}: {old.get(name, ABSENT)} there, {new.get(name, ABSENT)} now"
        for name in dict.fromkeys([*old, *new])
        if old.get(name, ABSENT) != new.get(name, ABSENT) and not _is_free(name)
    ]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Values by the dotted paths of their fields."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner:
        yield name, value
    for key, each in inner:
        yield from _flat(each, f"{name}.{key}" if name else str(key))


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


def _what_to_do(run: Path, done: int, steps: int) -> str:
    bundle = run / "bundle"
    new = "for a new run name another --output"
    if done < steps:
        return f"It stands at step {done:,} of {steps:,}: with the values there it goes on; {new}"
    if (bundle / MANIFEST).exists():
        return f"It is finished: to train its bundle further, say `start: {bundle}` and no `model`; {new}, too"
    return f"It has done its {steps:,} steps: with the values there it is exported and measured; {new}"
