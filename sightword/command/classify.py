"""`sightword classify`: which of some labels fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sightword.client import Client
from sightword.command import screen
from sightword.command.backend import Backend, ModelOption, ProviderOption, UrlOption, open_backend
from sightword.command.inputs import Input, read_inputs
from sightword.command.labels import (
    LabelsFileOption,
    LabelsOption,
    TemplateOption,
    TemplateSetOption,
    read_labels,
)
from sightword.command.screen import JsonOption
from sightword.command.status import SOME_FAILED, UsageError, user_errors
from sightword.results import Classification

SHOWN = 5


def classify(
    inputs: Annotated[
        list[str] | None, typer.Argument(help="Pictures, folders of them, patterns; - for texts, one a line.")
    ] = None,
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    label_set: Annotated[str | None, typer.Option(help="Labels that a service stores, by their name.")] = None,
    template: TemplateOption = None,
    template_set: TemplateSetOption = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text to classify; again and again.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help=f"Show so many labels. [default: {SHOWN}]")] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Judge each label alone: several may fit, or none.")
    ] = False,
    threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Drop labels of lower scores.")] = None,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which of the labels fits each picture: any words, without training.

    sightword classify cat.jpg --labels cat,dog

    sightword classify photos/ --labels-file tags.txt --multi-label --threshold 0.5

    sightword classify cat.jpg --labels cat,dog --json | jq -r '.key + " " + .label'
    """
    with user_errors():
        entries = read_inputs(inputs or [], text or [])
        names = read_labels(labels, labels_file)
        if bool(names) == bool(label_set):
            raise UsageError("Give --labels (or --labels-file), or else --label-set.")
        options: dict[str, Any] = {
            "templates": template or None, "template_set": template_set, "top_k": top or SHOWN,
            "multi_label": multi_label, "threshold": threshold, "on_error": "item", "progress": True,
        }  # fmt: skip
        with open_backend(url, model, provider) as backend:
            results = _classify(backend, [entry.item for entry in entries], names, label_set, options)
        if screen.for_people(as_json):
            columns = {"item": "left", "label": "left", "score": "right", "": "left"}
            screen.write_table(columns, _rows(entries, results))
        else:
            for entry, result in zip(entries, results, strict=True):
                screen.write_json(_json(entry.key, result))
    failed = {
        entry.key: result.error for entry, result in zip(entries, results, strict=True) if result.error is not None
    }
    screen.report_failures(failed, len(entries))
    if failed:
        raise typer.Exit(SOME_FAILED)


def _classify(
    backend: Backend, items: list[Path | str], labels: list[str], label_set: str | None, options: dict[str, Any]
) -> list[Classification]:
    if label_set is None:
        return backend.classify(items, labels, **options)
    if not isinstance(backend, Client):
        raise UsageError("A service stores label sets: give its --url, or set SIGHTWORD_URL.")
    return backend.classify(items, label_set=label_set, **options)


def _rows(entries: Sequence[Input], results: Sequence[Classification]) -> Iterator[tuple[Any, ...]]:
    for entry, result in zip(entries, results, strict=True):
        if result.error is None and not result.predictions:
            yield screen.name_of(entry), "none of them", "", ""
        for place, each in enumerate(result.predictions):
            name = "" if place else screen.name_of(entry)
            yield name, screen.name_of(each.label), f"{each.score:.1%}", screen.bar(each.score)


def _json(key: str, result: Classification) -> dict[str, Any]:
    if result.error is not None:
        return screen.error_json(key, result.error)
    predictions = [{"label": each.label, "score": each.score, "cosine": each.cosine} for each in result.predictions]
    return {"key": key, "label": result.label, "score": result.score, "predictions": predictions}
