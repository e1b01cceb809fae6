"""The whole configuration of a run: one YAML file, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from model.config import ModelConfig, PresetError, ResNetConfig, load_preset
from model.suggestions import did_you_mean_path
from model.zeroshot import DEFAULT_TEMPLATES, fill
from training.config.augmentation import Augmentation
from training.config.bounded_yaml import YamlError, parse_yaml, read_yaml
from training.config.captions import STORED
from training.config.data import Data
from training.config.errors import ConfigError, describe
from training.config.merging import merge_fields
from training.config.optimization import Lock, Objective, Optimizer, Stage
from training.config.section import Section
from training.config.text import Text

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]


class TrainConfig(Section):
    """All settings of one run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model: str | None = None  # a preset, to begin with random weights
    start: str | None = None  # or a bundle, to train it further; relative to the configuration file
    image_size: int | None = Field(default=None, gt=0, le=4096)  # with start: the size of pictures from now on
    text: Text | None = None  # another text tower than that of model or start
    data: Data
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=1)
    stages: Annotated[list[Stage], Field(min_length=1)]
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    lock: Lock = Lock()
    # Of the moving average that is evaluated and exported; at first it is (1 + step) / (10 + step), where that is less.
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    min_crop: float = Field(default=0.35, gt=0, le=1)  # smallest area of a random crop
    augmentation: Augmentation = Augmentation()  # what else is varied of an image
    patch_dropout: float = Field(default=0.0, ge=0, lt=1)  # share of a vision transformer's patches not looked at
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "auto"
    accumulate: int = Field(default=1, gt=0)  # chunks that a batch is computed in, to need less memory
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them
    parallel: Literal["ddp", "fsdp"] = "ddp"  # what processes share: gradients, or weights and moments, too
    compile: bool = False  # towers by torch.compile
    seed: int = Field(default=0, ge=0, lt=2**63)
    evaluate_every: int = Field(default=200, gt=0)
    checkpoint_every: int = Field(default=100, gt=0)
    keep_checkpoints: int = Field(default=2, gt=0)  # the last so many
    templates: list[str] = Field(default=list(DEFAULT_TEMPLATES), min_length=1)  # of the evaluations
    weights_dtype: Literal["float32", "float16"] = "float16"

    @model_validator(mode="after")
    def _stages_in_order(self) -> TrainConfig:
        starts = [stage.start for stage in self.stages]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("stages must start at 0 and follow each other")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if (self.model is None) == (self.start is None):
            raise ValueError("name what to begin with: model, a preset, or start, a bundle; and not both")
        if self.model is not None:
            try:
                preset = load_preset(self.model)
            except PresetError as error:
                raise ValueError(f"model: {error}") from error
            self.check_stages(preset)
            self.with_mixture(preset)
            if self.image_size is not None:
                raise ValueError("image_size: a preset has its own; set it where a bundle is trained further")
            if self.text is not None and self.text.preset is not None:
                raise ValueError(
                    f"text.preset: it goes over the image tower of a start, and there is none: {self.model} has its "
                    "own text tower. Name the bundle in start, in place of model"
                )
        if self.objective.teacher == STORED and self.data.max_long_text:
            raise ValueError("objective.teacher: stored has no vectors of long texts: set data.max_long_text to 0")
        if self.lock.image[0] == self.lock.text[0] == 1:
            raise ValueError("lock: with both towers locked there is nothing to learn")
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("precision: fp16 scales the loss, which parallel: fsdp cannot: choose bf16, or ddp")
        if self.parallel == "fsdp" and not {self.lock.image, self.lock.text} <= {(0, 0), (1, 1)}:
            raise ValueError("lock: with parallel: fsdp a tower learns always or never, 0 or 1; choose ddp")
        for template in self.templates:
            fill(template, "label")
        if self.optimizer.warmup_steps >= self.steps:
            raise ValueError(f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be fewer than steps")
        return self

    def check_stages(self, model: ModelConfig) -> None:
        """Raise ValueError for crops that a network of this configuration does not take."""
        image = model.image
        if self.patch_dropout and isinstance(image, ResNetConfig):
            raise ValueError(f"patch_dropout: {model.name} has no patches")
        step = 32 if isinstance(image, ResNetConfig) else image.patch_size
        for stage in self.stages:
            if stage.pixels % step:
                raise ValueError(f"{model.name} takes crops of a multiple of {step} pixels, not {stage.pixels}")

    def with_mixture(self, model: ModelConfig) -> ModelConfig:
        """The model with the vectors that `objective.llip` mixes, where that is the loss. Raises ValueError."""
        if self.objective.kind != "llip":
            return model
        try:
            return ModelConfig.model_validate({**dict(model), "mixture": self.objective.llip.mixture})
        except ValidationError as error:
            raise ValueError(f"objective.llip: {model.name}: {error.errors()[0]['msg']}") from error

    def pixels_at(self, step: int) -> int:
        """Side of the crops at `step`."""
        reached = [stage.pixels for stage in self.stages if step >= stage.start * self.steps]
        return reached[-1]


def load_config(file: Path, overrides: Sequence[str] = (), changes: Sequence[Mapping[str, Any]] = ()) -> TrainConfig:
    """Read and check a configuration, with `overrides` as `optimizer.learning_rate=1e-4`, whose values are YAML.

    Before those come the fields of `changes`, one after the other, as `merge_fields` puts them. Raises ConfigError
    naming the file and the field.
    """
    content = _read_fields(file)
    for each in changes:
        merge_fields(content, each)
    if isinstance(content.get("objective"), str):  # the name of a kind alone, of which an override names a field
        content["objective"] = {"kind": content["objective"]}
    for override in overrides:
        _set_field(content, override)
    try:
        return _with_absolute_paths(TrainConfig.model_validate(content), file.resolve().parent)
    except ValidationError as error:
        lines = describe(error, TrainConfig)
        raise ConfigError(f"{file} is not a valid configuration:\n  " + "\n  ".join(lines)) from error


def _read_fields(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml(file)
    except (OSError, YamlError) as error:
        near = did_you_mean_path(file) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{file} cannot be read: {error}{near}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no fields, such as `steps: 300`: `python -m training config` prints some")
    return content


def _set_field(content: Any, override: str) -> None:
    name, given, value = override.partition("=")
    *outer, last = name.split(".")
    for part in outer:
        content = content.setdefault(part, {}) if isinstance(content, dict) else None
    if not given or not last or not isinstance(content, dict):
        raise ConfigError(f"{override!r} is no override: write FIELD=VALUE, or SECTION.FIELD=VALUE")
    try:
        content[last] = parse_yaml(value)
    except YamlError as error:
        raise ConfigError(f"{override!r}: the value cannot be read: {error}") from error


def _with_absolute_paths(config: TrainConfig, base: Path) -> TrainConfig:
    """Make the paths of bundles and models that it names absolute, so that the run's folder opens from anywhere."""
    start = str(base / config.start) if config.start else None
    teacher, categories = config.objective.teacher, config.objective.categories
    teacher = teacher if teacher in (None, STORED) else str(base / teacher)
    named = str(base / categories.vocabulary) if categories.vocabulary else None
    paths = {"vocabulary": named, "wordnet": str(base / categories.wordnet)}
    objective = config.objective.model_copy(
        update={"teacher": teacher, "categories": categories.model_copy(update=paths)}
    )
    captions = config.data.captions
    if captions.teacher not in (None, STORED):
        captions = captions.model_copy(update={"teacher": str(base / captions.teacher)})
    data = config.data.model_copy(update={"captions": captions})
    text = config.text
    if text is not None and text.frozen is not None and (base / text.frozen).exists():  # it may be a package's name
        text = text.model_copy(update={"frozen": str(base / text.frozen)})
    return config.model_copy(update={"start": start, "objective": objective, "data": data, "text": text})
