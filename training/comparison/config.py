"""The file of a comparison: one base configuration, what each run changes of it, seeds, and what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, field_validator

from model.suggestions import did_you_mean, not_one_of
from training.config import ConfigError, TrainConfig, load_config
from training.config.bounded_yaml import YamlError, read_yaml
from training.config.errors import describe
from training.config.merging import changed_fields, merge_fields
from training.config.section import Names, Patterns, Section
from training.evaluation.results import TASKS

# Of the comparison: seeds and tests are the same for all runs, and a bundle is named by its run.
EARLIER = "run/"  # before the name of a run whose bundle is meant
OWN = {"seed": "seeds", "name": "the name of the run", "data.test": "measure.test"}
NEEDED = {"probe": ("linear-probe", "few-shot", "transfer"), "robustness": ("robustness",)}  # of `measure`, by tasks
# What a run may change and still see the same batches in the same order as the others.
SAME_BATCHES = ("objective", "model", "start", "image_size", "text", "lock", "optimizer", "ema_decay")

RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)]
Changes = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Measure(Section):
    """What is measured of each bundle; paths are relative to the base configuration."""

    tasks: Names = Field(default=[])  # of `evaluate --task`; by default all that the data allow
    test: dict[str, Patterns] | None = None  # instead of the base's `data.test`
    probe: dict[str, Patterns] = Field(default={})  # a test: shards that linear probes of it learn from
    robustness: dict[str, str] = Field(default={})  # a shifted test: the clean one with the same classes

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: list[str]) -> list[str]:
        for task in tasks:
            if task not in TASKS:
                raise ValueError(f"there is no task {task}: {not_one_of(task, TASKS)}")
        return tasks


class CompareConfig(Section):
    """A comparison of runs that differ in what each changes of the base."""

    base: str  # a training configuration, relative to this file
    set: Changes = Field(default={})  # fields that have another value in all runs
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default=[0])
    runs: Annotated[dict[RunName, Changes], Field(min_length=1)]  # by name; the first is what others are compared with
    measure: Measure = Measure()

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is there twice")
        return seeds

    @field_validator("runs")
    @classmethod
    def _names_differ(cls, runs: dict[str, Any]) -> dict[str, Any]:
        if len({name.casefold() for name in runs}) < len(runs):
            raise ValueError("names of runs, which are those of their folders, differ in more than case")
        return runs


@dataclass(frozen=True)
class PlannedRun:
    """One training of a comparison: a run with one seed. Paths of its data are relative to `base`."""

    run: str
    seed: int
    config: TrainConfig
    base: Path

    @property
    def folder(self) -> str:
        """Its name in the folder of the comparison."""
        return f"{self.run}-{self.seed}"

    def __str__(self) -> str:
        return f"{self.run}, seed {self.seed}"


@dataclass(frozen=True)
class Comparison:
    """A checked comparison; `trainings` are in the order in which they are done, `measure` has all tests."""

    config: CompareConfig
    measure: Measure
    trainings: Sequence[PlannedRun]

    @property
    def runs(self) -> list[str]:
        """The names of the runs, the one that others are compared with first."""
        return list(self.config.runs)

    def changes(self, run: str) -> dict[str, Any]:
        """What the run changes of the base, by dotted names."""
        return dict(changed_fields(self.config.runs[run]))

    def other_batches(self, run: str) -> list[str]:
        """Fields that the run changes by which its batches or its schedule are not those of the others."""
        return [name for name in self.changes(run) if name.split(".")[0] not in SAME_BATCHES]


def load_comparison(file: Path, output: Path, overrides: Sequence[str] = ()) -> Comparison:
    """Read a comparison and check the configuration of every run; `overrides` as `load_config` takes them, for all.

    What a run begins with or learns from may be the bundle that an earlier one leaves in the folder `output`. Raises
    ConfigError naming the file, the run and the field.
    """
    config = _read(file)
    base_file = file.parent / config.base
    trainings, tests = [], dict[str, list[str]]()
    for seed in config.seeds:
        for run, changes in config.runs.items():
            _refuse_own_fields(file, run, config.set, changes)
            own = {"seed": seed, "name": f"{run}-{seed}"}
            earlier = [*config.runs][: [*config.runs].index(run)]
            try:
                bundles = _bundles_of_runs([config.set, changes], earlier, output, seed)
                found = load_config(base_file, overrides, [config.set, changes, bundles, own])
            except ConfigError as error:
                raise ConfigError(f"{file}, run {run}: {error}") from error
            tests = tests or found.data.test
            # They are measured by the comparison, and nothing else.
            found = found.model_copy(update={"data": found.data.model_copy(update={"test": {}})})
            trainings.append(PlannedRun(run, seed, found, base_file.resolve().parent))
    measure = config.measure.model_copy(update={"test": config.measure.test or tests})
    _check_measure(file, measure)
    return Comparison(config, measure, trainings)


def _read(file: Path) -> CompareConfig:
    try:
        return CompareConfig.model_validate(read_yaml(file))
    except (OSError, YamlError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        lines = describe(error, CompareConfig)
        raise ConfigError(f"{file} is not a valid comparison:\n  " + "\n  ".join(lines)) from error


def _bundles_of_runs(
    changes: Sequence[dict[str, Any]], earlier: Sequence[str], output: Path, seed: int
) -> dict[str, Any]:
    """The fields that name a run after all `changes`, with the path of the bundle that it leaves."""
    merged, found = dict[str, Any](), {}
    for each in changes:
        merge_fields(merged, each)
    for field, value in changed_fields(merged):
        if isinstance(value, str) and value.startswith(EARLIER):
            name = value.removeprefix(EARLIER)
            if name not in earlier:
                near = did_you_mean(name, earlier)
                raise ConfigError(f"{field}: there is no run {name!r} before this one{near and '. '}{near}")
            found[field] = str(output.resolve() / f"{name}-{seed}" / "bundle")
    return found


def _refuse_own_fields(file: Path, run: str, *changes: dict[str, Any]) -> None:
    for each in changes:
        for name in dict(changed_fields(each)):
            for own, instead in OWN.items():
                if name == own or name.startswith(f"{own}."):
                    raise ConfigError(f"{file}, run {run}: {name} is said by {instead} of the comparison")


def _check_measure(file: Path, measure: Measure) -> None:
    tests = measure.test or {}
    if not tests:
        raise ConfigError(f"{file}: measure.test: name what to measure on; the base configuration has no data.test")
    for field, named in (("probe", measure.probe), ("robustness", {**measure.robustness, **_inverse(measure)})):
        for name in named:
            if name not in tests:
                raise ConfigError(f"{file}: measure.{field}: there is no test {name!r}. {did_you_mean(name, tests)}")
    for shifted, clean in measure.robustness.items():
        if shifted == clean:
            raise ConfigError(f"{file}: measure.robustness: {clean!r} loses nothing against itself: name another test")
    for field, tasks in NEEDED.items():
        for task in tasks:
            if task in measure.tasks and not getattr(measure, field):
                raise ConfigError(
                    f"{file}: measure.tasks: {task} is measured of the tests of measure.{field}: name some"
                )


def _inverse(measure: Measure) -> dict[str, str]:
    return {clean: shifted for shifted, clean in measure.robustness.items()}
