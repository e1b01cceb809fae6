"""Configurations of models whose networks are not ours: a library defines them, or ONNX files of others hold them.

A bundle of such a model has its graphs, which are served as all are. It cannot be trained further.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from model.config import Dimensions, ModelConfig, ModelName
from model.frozen import Frozen

Library = Literal["open_clip", "transformers", "sentence_transformers", "onnx"]
# What is done to a text before a tokenizer of the `tokenizers` library gets it: open_clip's HFTokenizer has the names.
TextCleaning = Literal["none", "whitespace", "lower", "canonicalize"]


class LibraryImageConfig(Frozen):
    """The image tower."""

    kind: Literal["library"] = "library"
    image_size: int = Field(gt=0, le=4096)


class LibraryTextConfig(Frozen):
    """The text tower. Where it has a mask, that is made of `pad_id` inside its graph."""

    kind: Literal["library"] = "library"
    context_length: int = Field(ge=3, le=32_768)
    vocab_size: int = Field(ge=3, le=2_000_000)
    pad_id: int = Field(ge=0)  # what a row is filled up with
    fixed_length: bool  # texts must be padded to the context length: the import has measured that trimming changes them
    # Whose tokenizer.json it is: CLIP's, as `model.tokenizers.clip` writes it, or any of the `tokenizers` library.
    tokenizer: Literal["clip", "hugging_face"]
    clean: TextCleaning = "none"  # before a tokenizer of "hugging_face"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.pad_id >= self.vocab_size:
            raise ValueError(f"pad_id must be below vocab_size {self.vocab_size}")
        return self


class LibraryConfig(Frozen):
    """One dual encoder of a library, or of two ONNX files: towers that meet in `embed_dim` dimensions."""

    name: ModelName
    library: Library
    architecture: str = Field(min_length=1, max_length=200)  # as the library names it
    embed_dim: Dimensions
    image: LibraryImageConfig
    text: LibraryTextConfig


def _config_kind(value: Any) -> str:
    library = "library" in value if isinstance(value, dict) else isinstance(value, LibraryConfig)
    return "library" if library else "own"


AnyConfig = Annotated[
    Annotated[ModelConfig, Tag("own")] | Annotated[LibraryConfig, Tag("library")], Discriminator(_config_kind)
]
