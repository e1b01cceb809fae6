"""What readers of published formats return: a configuration, and tensors under the names of our networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from model.config import Activation, ModelConfig, Preprocessing
from model.network import LibraryNetwork
from model.terminal import printable
from model.tokenizers.clip import TextTokenizer

_MESSAGE_CHARACTERS = 4000


class CheckpointError(ValueError):
    """A checkpoint that cannot be imported; the message names the file, layer or field, and what to do."""

    def __init__(self, message: str) -> None:
        """Names in it may be of a file, and of any length: what a terminal would obey is escaped."""
        super().__init__(printable(message, keep="\n")[:_MESSAGE_CHARACTERS])


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Put the file before the message of a CheckpointError."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error


@dataclass(frozen=True)
class LibraryArchitecture:
    """An architecture of open_clip that our networks do not compute."""

    name: str
    model_cfg: Any  # as a file has it, unchecked
    refusal: str  # why they do not


@dataclass(frozen=True)
class Options:
    """What the user says about a checkpoint; None leaves it to the source."""

    activation: Activation | None = None
    architecture: ModelConfig | None = None  # for files of weights, which name none; else inferred from the shapes
    image_size: int | None = None  # position embeddings are resized to it
    exact_pixels: bool = False  # rotated, transparent and very large pictures as the original's code treats them
    preset: bool = False  # `architecture` stands for shapes, its activation is only a default
    matryoshka_dimensions: tuple[int, ...] = ()  # lengths that vectors were trained to be cut to
    preprocess_cfg: Mapping[str, Any] | None = None  # open_clip's, from beside the architecture; else OpenAI's
    logit_scale: float | None = None  # of ONNX exports, which have none
    logit_bias: float | None = None
    library_architecture: LibraryArchitecture | None = None  # in place of `architecture`
    tokenizer: Path | None = None  # folder of the tokenizer that such an architecture has


@dataclass
class LibraryCheckpoint:
    """A network that a library has built, with its weights, preprocessing and tokenizer."""

    network: LibraryNetwork
    preprocessing: Preprocessing
    tokenizer: TextTokenizer
    source: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


@dataclass
class Checkpoint:
    """Configuration, tensors, preprocessing and tokenizer of a checkpoint, before a network is made of them."""

    config: ModelConfig
    state: dict[str, Tensor]  # names and shapes of `build_network(config)`
    preprocessing: Preprocessing
    tokenizer: TextTokenizer
    source: dict[str, Any]  # into the manifest: format, and for each choice which source decided it
    warnings: list[str] = field(default_factory=list)
