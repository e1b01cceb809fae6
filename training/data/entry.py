"""One sample of a training set before its picture is read: where the picture is, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

WHOLE, ROW = -1, -2  # sizes of a `Place` that is no piece of a file

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _none_as_empty(value: Any) -> Any:
    return [] if value is None else value


def _without_blanks(said: list[str]) -> list[str]:
    return [text.strip() for text in said if text.strip()]


Phrases = Annotated[list[str], BeforeValidator(_none_as_empty), AfterValidator(_without_blanks)]


class Told(BaseModel):
    """What is said of a picture, as in KEY.json: all of it optional, other fields allowed, wrong types not."""

    model_config = ConfigDict(extra="allow", strict=True)

    label: Words | None = None
    captions: Phrases = []
    tags: Phrases = []
    coarse: Words | None = None
    description: Words | None = None

    def says_something(self) -> bool:
        """Whether there is anything that a caption could be drawn from."""
        return bool(self.label or self.captions or self.coarse or self.tags)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of a picture are: `size` bytes of `file` from `offset` on.

    With size WHOLE it is all of `file`; with size ROW, row `offset` of the Parquet column `column`.
    """

    file: Path
    offset: int = 0
    size: int = WHOLE
    column: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample that can be drawn. Of an `opaque` one the name says that it has no alpha channel."""

    key: str
    place: Place
    told: Told
    opaque: bool = False
