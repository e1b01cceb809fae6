"""The configuration of a text tower that is a pretrained language model with layers of ours on it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from model.frozen import Frozen

# Encoders of transformers that are built from numbers alone, and whose every token sees all others.
LANGUAGE_MODELS = (
    "albert", "bert", "camembert", "distilbert", "electra", "ernie", "mpnet", "roberta", "xlm-roberta",
)  # fmt: skip
MAX_NUMBER, MAX_LAYERS = 10_000_000, 256  # of a vocabulary or a width; of what multiplies layers
_MULTIPLIES = ("layer", "group")

Name = Annotated[StrictStr, Field(max_length=200)]
ArchitectureField = StrictBool | StrictInt | StrictFloat | Name | None
Pooling = Literal["mean", "cls", "max"]  # of the outputs of all tokens, or that of the first one


class TransformersTextConfig(Frozen):
    """A frozen language model of transformers, `alignment_layers` trained blocks on its outputs, and how these pool.

    It holds all that the network is built from; the weights are in the bundle.
    """

    kind: Literal["transformers"] = "transformers"
    # The fields of its config.json that are not their defaults, and its model_type.
    architecture: dict[Name, ArchitectureField] = Field(max_length=200)
    width: int = Field(gt=0, le=16_384)  # of its outputs
    pooling: Pooling
    alignment_layers: int = Field(ge=0, le=MAX_LAYERS)
    heads: int = Field(gt=0)  # of the alignment layers
    context_length: int = Field(ge=3, le=32_768)
    vocab_size: int = Field(ge=3, le=2_000_000)
    pad_id: int = Field(ge=0)  # what a row is filled up with, which is not looked at
    fixed_length: bool  # texts must be padded to the context length: it was measured that trimming changes them

    @property
    def clean(self) -> Literal["none"]:
        """What is done to a text before its tokenizer gets it."""
        return "none"

    @model_validator(mode="before")
    @classmethod
    def _kind_first(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("architecture"), dict):
            kind = value["architecture"].get("model_type")
            if kind not in LANGUAGE_MODELS:
                raise ValueError(f"model_type is {kind!r:.100}: it must be one of {', '.join(LANGUAGE_MODELS)}")
        return value

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.pad_id >= self.vocab_size:
            raise ValueError(f"pad_id must be below vocab_size {self.vocab_size}")
        for name, value in self.architecture.items():
            most = MAX_LAYERS if any(part in name and "norm" not in name for part in _MULTIPLIES) else MAX_NUMBER
            if isinstance(value, int | float) and not -MAX_NUMBER <= value <= most:
                raise ValueError(f"architecture.{name} is {value!r:.50}: no network has that")
        return self
