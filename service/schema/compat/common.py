"""What the requests and answers of compatible APIs share.

They take every field that their originals define. What has no meaning here, such as `user`, `task`, `input_type` or
`late_chunking`, is ignored, and so is null for what may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

UNSPECIFIED = "default/not-specified"  # what Infinity's clients send where no model was chosen

ModelName = Annotated[str | None, AfterValidator(lambda name: None if name == UNSPECIFIED else name)]


TRUNCATE_WORDS: dict[str, bool | Literal["start"]] = {"NONE": False, "START": "start", "END": True}


def _read_truncate(value: object) -> object:
    """Cohere's and NVIDIA's words for it, too."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.upper() in TRUNCATE_WORDS:
        return TRUNCATE_WORDS[value.upper()]
    raise ValueError(f"This is a boolean, or one of {', '.join(TRUNCATE_WORDS)}")


Truncate = Annotated[
    bool | Literal["start"] | None,
    PlainValidator(_read_truncate, json_schema_input_type=bool | Literal["NONE", "START", "END"] | None),
]


def _refuse_prompt(name: str | None) -> str | None:
    if name:
        raise ValueError("There are no prompts by name here; put the prompt's words into the texts")
    return None


# Of Text Embeddings Inference and Hugging Face.
PromptName = Annotated[str | None, AfterValidator(_refuse_prompt)]
Direction = Annotated[
    Literal["left", "right"] | None, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
]


class Compatible(BaseModel):
    """What every request may say."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: ModelName = Field(None, description="id of the model; the first one served if not given")
    truncate: Truncate = Field(
        None,
        validation_alias=AliasChoices("truncate", "truncation"),
        description="cut texts that are longer than the context, instead of refusing them; or NONE, START or END, "
        "the side that is cut",
    )

    @property
    def cut(self) -> bool | None:
        """Whether texts are cut; at which side, each knows itself."""
        return None if self.truncate is None else bool(self.truncate)


class TokenUsage(BaseModel):
    """Tokens of the model's own tokenizer, start and end included; pictures have none."""

    prompt_tokens: int
    total_tokens: int


def token_usage(usage: Mapping[str, int]) -> dict[str, int]:
    """Ours as OpenAI's: no tokens are made here, so that all of them are those of the request."""
    return {"prompt_tokens": usage["tokens"], "total_tokens": usage["tokens"]}


def seconds_since_1970(created: str) -> int:
    """Of when a bundle was made; 0 where its maker wrote anything but a date."""
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0


class LabelScore(BaseModel):
    """A label and how well it fits."""

    label: str
    score: float
