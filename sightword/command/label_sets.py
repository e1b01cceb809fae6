"""`sightword label-sets`: those that a service stores."""

from __future__ import annotations

from typing import Annotated

import typer

from sightword.command import screen
from sightword.command.backend import UrlOption, open_client
from sightword.command.labels import (
    LabelsFileOption,
    LabelsOption,
    TemplateOption,
    TemplateSetOption,
    read_labels,
)
from sightword.command.screen import JsonOption
from sightword.command.status import SOME_FAILED, UsageError, user_errors
from sightword.results import LabelSet

app = typer.Typer(
    no_args_is_help=True,
    help="The label sets of a service: stored once, and named by `sightword classify --label-set`. They need a "
    "service, at SIGHTWORD_URL or --url, by default at http://127.0.0.1:8000.\n\n"
    "  sightword label-sets put pets --labels cat,dog,parrot\n\n"
    "  sightword classify cat.jpg --label-set pets --url http://127.0.0.1:8000",
)
Name = Annotated[str, typer.Argument(help="Its name.")]


@app.command("list")
def list_sets(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """Their names."""
    with user_errors(), open_client(url) as client:
        names = client.label_sets.list()
    for name in names:
        screen.write_json({"name": name}) if not screen.for_people(as_json) else typer.echo(name)


@app.command()
def get(name: Name, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """The labels and templates of one."""
    with user_errors(), open_client(url) as client:
        _show(client.label_sets.get(name), as_json)


@app.command()
def put(
    name: Name,
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    template: TemplateOption = None,
    template_set: TemplateSetOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store one, in the place of what had its name."""
    with user_errors():
        names = read_labels(labels, labels_file)
        if not names:
            raise UsageError("Give --labels or --labels-file.")
        with open_client(url) as client:
            stored = client.label_sets.put(name, names, templates=template or None, template_set=template_set)
        _show(stored, as_json)


@app.command()
def delete(name: Name, url: UrlOption = None) -> None:
    """Delete one."""
    with user_errors(), open_client(url) as client:
        was_there = client.label_sets.delete(name)
    if not was_there:
        typer.echo(f"There was no label set {name}.", err=True)
        raise typer.Exit(SOME_FAILED)


def _show(stored: LabelSet, as_json: bool) -> None:
    if not screen.for_people(as_json):
        screen.write_json({"name": stored.name, "labels": stored.labels, "templates": stored.templates})
        return
    rows = [("labels", ", ".join(stored.labels)), ("templates", ", ".join(stored.templates))]
    screen.write_table({stored.name: "left", f"{len(stored.labels)} labels": "left"}, rows)
