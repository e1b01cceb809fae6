"""The configuration of a run: one YAML file, checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.config import ViTConfig, load_preset
from model.zeroshot import DEFAULT_TEMPLATES, fill


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Frozen):
    """Shards that are sampled together."""

    shards: Annotated[list[str], Field(min_length=1)]  # glob patterns, relative to the configuration file
    weight: float = Field(default=1.0, gt=0)  # share of all samples drawn, relative to the other sources
    class_power: float = Field(default=0.5, ge=0, le=1)  # 1: as frequent as it is; 0: every label alike


class Data(_Frozen):
    """What is learned from, and how pictures are kept in memory."""

    train: Annotated[list[Source], Field(min_length=1)]
    test: dict[str, list[str]] = {}  # name: glob patterns; measured once, at the end
    holdout: float = Field(default=0.05, ge=0, lt=1)  # share of the training items that chooses the checkpoint
    synonyms: str | None = None  # JSON file, phrase: [other phrases that are true of the same pictures]
    store_pixels: int = Field(default=128, ge=32, le=512)  # pictures are kept squeezed to this square
    max_long_text: float = Field(default=0.05, ge=0, le=1)  # share of captions that may be whole descriptions


class Optimizer(_Frozen):
    """AdamW, linear warm-up and cosine decay; gains, biases and the logit scale are not decayed."""

    learning_rate: float = Field(default=5e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.2, ge=0)
    warmup_steps: int = Field(default=2000, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)


class Stage(_Frozen):
    """From `start` (a share of all steps) on, crops have `pixels`."""

    start: float = Field(ge=0, lt=1)
    pixels: int = Field(gt=0)


class TrainConfig(_Frozen):
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model: str  # a preset
    data: Data
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=1)
    stages: Annotated[list[Stage], Field(min_length=1)]
    optimizer: Optimizer = Optimizer()
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    min_crop: float = Field(default=0.35, gt=0, le=1)  # smallest area of a random crop
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    evaluate_every: int = Field(default=200, gt=0)
    checkpoint_every: int = Field(default=100, gt=0)
    templates: Annotated[list[str], Field(min_length=1)] = list(DEFAULT_TEMPLATES)  # of the evaluations
    weights_dtype: Literal["float32", "float16"] = "float16"

    @model_validator(mode="after")
    def _stages_in_order(self) -> TrainConfig:
        starts = [stage.start for stage in self.stages]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("stages must start at 0 and follow each other")
        return self

    @model_validator(mode="after")
    def _can_be_run(self) -> TrainConfig:
        image = load_preset(self.model).image
        step = image.patch_size if isinstance(image, ViTConfig) else 32
        for stage in self.stages:
            if stage.pixels % step:
                raise ValueError(f"{self.model} takes crops of a multiple of {step} pixels, not {stage.pixels}")
        for template in self.templates:
            fill(template, "label")
        if self.optimizer.warmup_steps >= self.steps:
            raise ValueError(f"optimizer.warmup_steps {self.optimizer.warmup_steps} must be fewer than steps")
        return self

    def pixels_at(self, step: int) -> int:
        """Side of the crops at `step`."""
        reached = [stage.pixels for stage in self.stages if step >= stage.start * self.steps]
        return reached[-1]


def load_config(file: Path) -> TrainConfig:
    """Read and check a configuration. Raises ConfigError naming the file and the field."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    try:
        return TrainConfig.model_validate(content)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ConfigError(f"{file} is not a valid configuration:\n  " + "\n  ".join(lines)) from error
