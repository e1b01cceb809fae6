"""Labels and templates on a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightword.command.status import UsageError

MAX_BYTES = 16 * 2**20  # of a file of labels

LabelsOption = Annotated[
    list[str] | None, typer.Option("--labels", help="Labels with commas between them; again and again.")
]
LabelsFileOption = Annotated[
    Path | None, typer.Option("--labels-file", help="A file with one label a line, which may hold commas.")
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option("--template", help="What a label is put into, such as 'a photo of a {}.'; again and again."),
]
TemplateSetOption = Annotated[
    str | None, typer.Option("--template-set", help="Templates that come along, by their name, such as imagenet.")
]


def read_labels(labels: list[str] | None, file: Path | None) -> list[str]:
    """Those of both, in order. Raises UsageError, OSError."""
    found = [label.strip() for text in labels or [] for label in text.split(",")]
    if file is not None:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(f"{file} is longer than a list of labels.")
        try:
            lines = file.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8 ({error.reason}).") from None
        found += [line.strip() for line in lines]
    return [label for label in found if label]
