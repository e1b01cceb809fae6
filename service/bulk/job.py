"""What a job is: what its command asks for, and `_job.json`, which holds all that its vectors depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from service.bulk.sources import Kind, SourceOptions

Layout = Literal["parquet", "npy", "clip-retrieval"]
Precision = Literal["float32", "float16"]
FORMAT = 1  # of _job.json, the plan and the parts
# What may be another when a job goes on: the first says what wrote it, the others follow from the rest.
_NOT_COMPARED = ("version", "kind", "batch", "parts", "rows")


class JobError(ValueError):
    """The command has to change; the message says what."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a command asks for, as it travels to the processes that do it. Paths are absolute."""

    inputs: tuple[str, ...]
    output: str
    source: SourceOptions
    layout: Layout = "parquet"
    precision: Precision = "float32"
    dimensions: int | None = None  # all that the model has
    truncate: bool | None = None  # what SIGHTWORD_TRUNCATE says
    model: str | None = None
    provider: str | None = None
    retry_failed: bool = False  # of the command, not of the job: parts are the same with and without it

    @property
    def folder(self) -> Path:
        """Where the parts go."""
        return Path(self.output)

    def described(self) -> dict[str, Any]:
        """The part of `_job.json` that is known before a model is opened."""
        described = {"format": FORMAT, "layout": self.layout, "precision": self.precision, **asdict(self.source)}
        as_read: dict[str, Any] = json.loads(json.dumps({**described, "inputs": self.inputs}, default=str))
        return as_read


class Planned(NamedTuple):
    """What is known once a job is planned, and the same for all who work on it."""

    kind: Kind
    batch: int  # items: which of them share a batch is the same wherever a part is computed
    parts: int
    rows: int

    @classmethod
    def from_job(cls, job: Mapping[str, Any]) -> Self:
        """Of what `_job.json` holds."""
        return cls(*(job[name] for name in cls._fields))


def refuse_other(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise JobError where the job in the folder differs from the one that is wanted, in what both say."""
    differing = [name for name in wanted if name in found and name not in _NOT_COMPARED and found[name] != wanted[name]]
    if differing:
        diff = "; ".join(f"{name} is {_shown(found[name])} there and {_shown(wanted[name])} here" for name in differing)
        raise JobError(
            f"{folder} holds another job: {diff}. Go on with what it was begun with, or take another --output."
        )


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
