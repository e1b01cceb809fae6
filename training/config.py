"""The configuration of a run: one YAML file, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from model.config import ModelConfig, PresetError, ResNetConfig, load_preset
from model.images.preprocessing import MAX_PIXELS
from model.suggestions import did_you_mean_path
from model.zeroshot import DEFAULT_TEMPLATES, fill
from training.bounded_yaml import YamlError, parse_yaml, read_yaml
from training.config_errors import describe, known_encoding

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the field."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_listed)]  # one, or a list


class Columns(_Frozen):
    """What the columns of a table hold; where nothing is said, the usual names are looked for."""

    picture: str | None = None  # paths, relative to the table; in Parquet also the bytes of picture files
    captions: Names = []
    label: str | None = None


class Source(_Frozen):
    """Pictures that are sampled together, in one of three forms; paths are relative to the configuration file."""

    shards: Names = []  # WebDataset tar files: glob patterns and brace lists
    table: Names = []  # CSV, TSV, JSON lines or Parquet files: glob patterns and brace lists
    folder: Names = []  # pictures with captions beside them, or in a folder for each label
    columns: Columns = Columns()  # of the table
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)  # of CSV; else what fits the first line
    quoting: Literal["csv", "none"] = "csv"  # of CSV; none: quotation marks are as they stand
    encoding: Annotated[str | None, AfterValidator(known_encoding)] = (
        None  # of tables and text files without a mark of their own; else UTF-8
    )
    weight: float = Field(default=1.0, gt=0)  # share of all samples drawn, relative to the other sources
    # True: drawn again and again by chance, by which labels can be balanced. False: each once in every pass.
    resample: bool = True
    # 1: labels as frequent as they are, which is also what not to resample means; 0: every label alike
    class_power: float = Field(default=0.5, ge=0, le=1)
    medium: str = ""  # such as photograph or drawing: what is said in one is no negative in another
    all_labels: bool = False  # every label is a text of every batch, in one wording, also where none of it was drawn

    @model_validator(mode="after")
    def _one_form(self) -> Source:
        if sum(map(bool, (self.shards, self.table, self.folder))) != 1:
            raise ValueError("name one of shards, table and folder; further ones are sources of their own")
        if not self.table and self.columns != Columns():
            raise ValueError(
                "columns are those of a table: name the metadata file of a folder as table; shards have none"
            )
        if not self.table and (self.delimiter is not None or self.quoting != "csv"):
            raise ValueError("delimiter and quoting are those of a table: name the metadata file of a folder as table")
        return self

    @model_validator(mode="after")
    def _balanced_or_in_turn(self) -> Source:
        if self.resample or self.class_power == 1:
            return self
        if "class_power" in self.model_fields_set:
            raise ValueError("class_power balances labels by drawing some pictures more often: set resample to true")
        object.__setattr__(self, "class_power", 1.0)  # so that the configuration of a run can be read again
        return self

    @property
    def where(self) -> list[str]:
        """The paths and patterns, of whichever form."""
        return self.shards or self.table or self.folder


class Data(_Frozen):
    """What is learned from, and where its pictures are kept."""

    train: Annotated[list[Source], Field(min_length=1)]
    test: dict[str, Names] = {}  # name: patterns of shards; measured once, at the end
    holdout: float = Field(default=0.05, ge=0, lt=1)  # share of the training items that chooses the checkpoint
    exclude: str | None = None  # JSON file, [keys of items that are left out, as SHARD.tar/KEY]
    synonyms: str | None = None  # JSON file, phrase: [other phrases that are true of the same pictures]
    # memory: decoded once and kept; disk: read and decoded when drawn, for sets that are larger than memory
    pictures: Literal["memory", "disk"] = "memory"
    store_pixels: int = Field(default=128, ge=32, le=512)  # pictures are squeezed to this square before the crop
    max_pixels: int = Field(default=MAX_PIXELS, gt=0)  # larger pictures are skipped, by their headers
    max_long_text: float = Field(default=0.05, ge=0, le=1)  # share of captions that may be whole descriptions


Beta = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(_Frozen):
    """AdamW, linear warm-up and cosine decay; gains, biases and the logit scale are not decayed."""

    learning_rate: float = Field(default=5e-4, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    eps: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.2, ge=0)
    warmup_steps: int = Field(default=2000, ge=0)
    # Gradients whose norm, over all parameters, is larger are scaled down to it; null: none is.
    clip_norm: float | None = Field(default=1.0, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)  # each layer learns at this share of the rate of the one above


class Objective(_Frozen):
    """The paper's softmax over a batch, or a sigmoid for each pair (SigLIP); and what a teacher sees."""

    kind: Literal["contrastive", "sigmoid"] = "contrastive"
    teacher: str | None = None  # a bundle whose similarities are learned, too (TinyCLIP's affinity mimicking)
    teacher_weight: float = Field(default=1.0, gt=0)
    teacher_scale: float = Field(default=50.0, gt=0)  # by which the teacher's cosines are multiplied

    @model_validator(mode="after")
    def _of_a_teacher(self) -> Objective:
        for name in ("teacher_weight", "teacher_scale"):
            if self.teacher is None and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of a teacher: name one, or leave it away")
        return self


def _span(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value, value)


Share = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[tuple[Share, Share], BeforeValidator(_span)]


class Lock(_Frozen):
    """For which share of all steps a tower keeps its weights; 1: always, as LiT keeps the image tower.

    Of two shares the first is when its top layer begins to learn and the second when all of them do: between the two
    they are unlocked from the top down.
    """

    image: Span = (0.0, 0.0)
    text: Span = (0.0, 0.0)

    @model_validator(mode="after")
    def _in_order(self) -> Lock:
        for name, (first, last) in (("image", self.image), ("text", self.text)):
            if first > last:
                raise ValueError(f"{name} begins to learn at {first} and wholly learns before, at {last}")
        return self


class Stage(_Frozen):
    """From `start` (a share of all steps) on, crops have `pixels`."""

    start: float = Field(ge=0, lt=1)
    pixels: int = Field(gt=0)


class TrainConfig(_Frozen):
    """One run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    model: str | None = None  # a preset, to begin with random weights
    start: str | None = None  # or a bundle, to train it further; relative to the configuration file
    image_size: int | None = Field(default=None, gt=0, le=4096)  # with start: the size of pictures from now on
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
        if (self.model is None) == (self.start is None):
            raise ValueError("name what to begin with: model, a preset, or start, a bundle; and not both")
        if self.model is not None:
            try:
                preset = load_preset(self.model)
            except PresetError as error:
                raise ValueError(f"model: {error}") from error
            self.check_stages(preset)
            if self.image_size is not None:
                raise ValueError("image_size: a preset has its own; set it where a bundle is trained further")
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

    def pixels_at(self, step: int) -> int:
        """Side of the crops at `step`."""
        reached = [stage.pixels for stage in self.stages if step >= stage.start * self.steps]
        return reached[-1]


def load_config(file: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read and check a configuration, with `overrides` as `optimizer.learning_rate=1e-4`, whose values are YAML.

    Raises ConfigError naming the file and the field.
    """
    content = _read(file)
    for override in overrides:
        _override(content, override)
    try:
        return _placed(TrainConfig.model_validate(content), file.resolve().parent)
    except ValidationError as error:
        lines = describe(error, TrainConfig)
        raise ConfigError(f"{file} is not a valid configuration:\n  " + "\n  ".join(lines)) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        content = read_yaml(file)
    except (OSError, YamlError) as error:
        near = did_you_mean_path(file) if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{file} cannot be read: {error}{near}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no fields, such as `steps: 300`: `python -m training config` prints some")
    return content


def _override(content: Any, override: str) -> None:
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


def _placed(config: TrainConfig, base: Path) -> TrainConfig:
    """With the bundles that it names as absolute paths, so that the run's folder can be opened from anywhere."""
    start = str(base / config.start) if config.start else None
    teacher = str(base / config.objective.teacher) if config.objective.teacher else None
    objective = config.objective.model_copy(update={"teacher": teacher})
    return config.model_copy(update={"start": start, "objective": objective})
