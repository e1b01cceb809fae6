"""The configuration of a run: its sections, how it is read, and what is wrong with one that cannot be run."""

from training.config.augmentation import Augmentation
from training.config.captions import Captions
from training.config.data import Columns, Data, Source
from training.config.errors import ConfigError
from training.config.optimization import Lock, Objective, Optimizer, Span, Stage
from training.config.run import Precision, TrainConfig, load_config
from training.config.text import Text

__all__ = [
    "Augmentation", "Captions", "Columns", "ConfigError", "Data", "Lock", "Objective", "Optimizer", "Precision",
    "Source", "Span", "Stage", "Text", "TrainConfig", "load_config",
]  # fmt: skip
