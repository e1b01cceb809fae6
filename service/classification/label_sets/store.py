"""The label set as it is stored, and the interface of a store of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from service.classification.class_vectors import Prompts
from service.errors import ApiError
from service.schema.answers import LabelSetSummary
from service.schema.requests import Labels, Templates

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_PATTERN = f"^{_NAME.pattern}$"


def is_name(name: str) -> bool:
    """Whether that is a valid name of a label set; such a name is also safe as a file name."""
    return _NAME.fullmatch(name) is not None


# Kinds of StoreError, as the API words them; names and paths of this machine appear in the log only.
REASONS = {
    "timeout": "their store does not answer in time",
    "connection": "Redis cannot be reached",
    "auth": "Redis refuses the service's credentials or permissions",
    "full": "their store is full",
    "readonly": "their store is read-only",
    "refused": "Redis refuses the commands",
    "protocol": "what answers in the place of Redis is none",
    "forbidden": "the service may not use their folder",
    "occupied": "something that is no label set lies in the place of their folder or file",
    "files": "their folder cannot be used",
}
MAX_DOCUMENT_BYTES = 32 * 2**20  # of one label set as it is stored; whatever else lies there is not read into memory


class StoreError(Exception):
    """A store failed; `kind` is a key of REASONS and the label of the metric."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LimitError(Exception):
    """`count` label sets are stored already: no more fit."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


class LabelSet(BaseModel):
    """Labels, and the templates that make prompts of them."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    labels: Labels
    templates: Templates
    template_set: str | None
    truncate: bool
    updated: str

    @cached_property
    def prompts(self) -> Prompts:
        """The prompts to embed, for every way to classify, so that no later request embeds any."""
        return Prompts(self.labels, self.templates, without_label=True, truncate=self.truncate)

    def summary(self) -> LabelSetSummary:
        """All but the labels and templates."""
        return LabelSetSummary(
            name=self.name,
            label_count=len(self.labels),
            template_count=len(self.templates),
            template_set=self.template_set,
            truncate=self.truncate,
            updated=self.updated,
        )

    def encode(self) -> bytes:
        """As JSON, as it is stored. Raises `too_many_inputs` for what `decode` would refuse as too large."""
        document = self.model_dump_json().encode()
        if len(document) > MAX_DOCUMENT_BYTES:
            message = f"This label set takes {len(document)} bytes; one can take {MAX_DOCUMENT_BYTES}."
            raise ApiError("too_many_inputs", message, "labels")
        return document


def decode(name: str, document: bytes) -> LabelSet:
    """The label set of that name. Raises ValueError for anything else."""
    try:
        label_set = LabelSet.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "all of it"
        raise ValueError(f"{where}: {first['msg']}") from None
    except ApiError as error:
        raise ValueError(f"{error.param}: {error.message}") from None
    if label_set.name != name:
        raise ValueError("name: it holds a set of another name")
    return label_set


class LabelSetStore(Protocol):
    """Where label sets are stored. Every method raises StoreError. A version is different after each change."""

    async def names(self) -> set[str]:
        """The names in use."""

    async def summaries(self) -> tuple[Sequence[LabelSetSummary], int]:
        """All label sets, in any order, and how many entries were skipped because they are not label sets."""

    async def version(self, name: str) -> str | None:
        """The current version; None if there is no such label set."""

    async def read(self, name: str) -> tuple[LabelSet, str] | None:
        """The label set and its version; None if there is none, or the entry is not a label set."""

    async def write(self, label_set: LabelSet, limit: int) -> tuple[bool, str]:
        """LabelSetStore it, and give whether it is new and its version.

        Raises LimitError if it is new and `limit` are stored already; atomic across processes and replicas.
        """

    async def remove(self, name: str) -> bool:
        """Remove it; returns whether there was one."""

    async def check(self) -> None:
        """Raise StoreError where label sets cannot be read or stored; stores nothing."""

    async def aclose(self) -> None:
        """Close connections and threads."""
