"""One drawing with its words, before and after rendering."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Words:
    """What the JSON beside a picture says."""

    label: str | None
    source: str
    licence: str
    tags: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    attribution: str | None = None
    extra: dict[str, str | bool] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The fields of a shard's JSON; optional ones only where there is something to say."""
        record: dict[str, object] = {"label": self.label, "captions": list(self.captions), "tags": list(self.tags)}
        record |= {"source": self.source, "licence": self.licence}
        if self.attribution:
            record["attribution"] = self.attribution
        return record | self.extra


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture as the package holds it: SVG text or the bytes of a raster file."""

    key: str
    kind: Literal["svg", "raster"]
    data: bytes
    words: Words
    # Clip art sits anywhere on its page; emoji fill a square that is part of the design.
    crop: bool = False
