"""What is worth saying of the labels of a data set before anything is learned from or measured on them."""

from __future__ import annotations

from collections.abc import Iterable

from training.data.annotation import plain
from training.data.troubles import Troubles


def note_labels(labels: Iterable[str], skipped: Troubles) -> None:
    """Note labels that may not be meant: those that only look different, and numbers."""
    alike: dict[str, str] = {}
    for label in labels:
        if (first := alike.setdefault(plain(label).replace("_", ""), label)) != label:
            skipped.note(f"labels that differ only in case or spaces are different labels: {first!r} and {label!r}")
    if alike and all(label.isdecimal() for label in alike):
        skipped.note(
            f"all labels are numbers, such as {next(iter(alike))!r}, and are read as words: where they stand for "
            "classes, put the names of these in their place"
        )
