"""The forms of a sample between its source and a batch: a record of where it lies, and the sample once it is read.

A source is scanned for `SampleRecord`s, which the index keeps; `Sample` holds the bytes of the image as well. What they
become for a step is in `decoded_image.DecodedImage`, `phrase_table.PhraseTable` and `collate.Batch`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints, model_validator

WHOLE_FILE, PARQUET_ROW = -1, -2  # sizes of a `SampleLocation` that is no piece of a file

NonBlank = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _none_as_empty(value: Any) -> Any:
    return [] if value is None else value


def _without_blanks(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if text.strip()]


Texts = Annotated[list[str], BeforeValidator(_none_as_empty), AfterValidator(_without_blanks)]


class Annotation(BaseModel):
    """The texts of an image, as in KEY.json: all of them optional, other fields allowed, wrong types not."""

    model_config = ConfigDict(extra="allow", strict=True)

    label: NonBlank | None = None
    captions: Texts = []
    tags: Texts = []
    coarse: NonBlank | None = None
    description: NonBlank | None = None
    # Of each caption, where not all are from a field `captions`: the field that it is from.
    caption_fields: list[str] = []
    # Of each caption, where vectors of a teacher are stored with the sample: its row among them, -1 for none.
    caption_rows: list[int] = []

    @model_validator(mode="after")
    def _as_many_as_captions(self) -> Annotation:
        for name in ("caption_fields", "caption_rows"):
            given = len(getattr(self, name))
            if given not in (0, len(self.captions)):
                raise ValueError(f"`{name}` has {given} entries, and there are {len(self.captions)} captions")
        return self

    def has_text(self) -> bool:
        """Whether there is anything that a caption could be drawn from."""
        return bool(self.label or self.captions or self.coarse or self.tags)


@dataclass(frozen=True, slots=True)
class SampleLocation:
    """Where the encoded image is: `size` bytes of `file` from `offset` on.

    With size WHOLE_FILE it is all of `file`; with size PARQUET_ROW, row `offset` of the Parquet column `column`.
    """

    file: Path
    offset: int = 0
    size: int = WHOLE_FILE
    column: str = ""


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """A sample whose image was not read yet. Of an `opaque` one the name says that it has no alpha channel.

    `vectors` is where those of a teacher are stored, as `stored_vectors` reads them.
    """

    key: str
    location: SampleLocation
    annotation: Annotation
    opaque: bool = False
    vectors: SampleLocation | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An encoded image and its texts."""

    key: str
    image: bytes
    annotation: Annotation
