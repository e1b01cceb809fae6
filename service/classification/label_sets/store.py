"""What is stored of a label set, and what a place to store it can do."""

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
    """Whether a label set can be called so; such a name is also safe as the name of a file."""
    return _NAME.fullmatch(name) is not None


# Why a store fails, as clients are told; the names and paths of this machine are for the log.
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
    """The place where label sets are stored fails; `kind` is one of REASONS, and one word for the metrics."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class LimitError(Exception):
    """There are `count` label sets already, and no room for one more."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


class LabelSet(BaseModel):
    """Labels and the templates they are put into."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    labels: Labels
    templates: Templates
    template_set: str | None
    truncate: bool
    updated: str

    @cached_property
    def prompts(self) -> Prompts:
        """What is embedded of it: for every way to classify, so that none costs anything later."""
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


class Store(Protocol):
    """Each call raises StoreError where it cannot be done. Versions differ when the label set does."""

    async def names(self) -> set[str]:
        """The names that are taken."""

    async def summaries(self) -> tuple[Sequence[LabelSetSummary], int]:
        """All label sets, in any order, and how many entries were left out because they are none."""

    async def version(self, name: str) -> str | None:
        """The version there is now; None if there is no such label set."""

    async def read(self, name: str) -> tuple[LabelSet, str] | None:
        """The label set and its version; None if there is none, or what is there is none."""

    async def write(self, label_set: LabelSet, most: int) -> tuple[bool, str]:
        """Store it, and give whether it is new and its version.

        Raises LimitError if it is new and there are `most` already, whoever else stores some at the same moment.
        """

    async def remove(self, name: str) -> bool:
        """Remove it, and tell whether there was one."""

    async def check(self) -> None:
        """Whether label sets can be read and stored, asked without storing one. Raises StoreError."""

    async def aclose(self) -> None:
        """End the connections."""
