"""`sightword embed`: pictures and texts to vectors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from sightword.command import screen
from sightword.command.backend import ModelOption, ProviderOption, UrlOption, model_of, open_backend
from sightword.command.inputs import Input, read_inputs
from sightword.command.screen import JsonOption
from sightword.command.status import SOME_FAILED, user_errors
from sightword.command.vector_file import VectorFile, check_name, json_line, write_vectors
from sightword.results import Embedded, ModelInfo

SHOWN_NUMBERS = 4


def embed(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, folders of them, patterns such as '*.jpg'; - for texts, one a line."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; again and again.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write .parquet, .npy or .jsonl instead of standard output.")
    ] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep so many components, and normalise again.")] = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut texts that are longer than the model reads.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="All vectors that a mixture model (Llip) makes of a picture.")
    ] = False,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn pictures and texts into vectors of unit length, which compare by their dot product.

    A mixture model (Llip) makes several of a picture, which it mixes for each text: --tokens writes all of them.

    The keys are the paths as they were given, or the texts. Parquet has the columns `key` and `embedding`, and needs
    pyarrow; .npy has the keys in a second file, NAME.npy.keys.json; each line of .jsonl is an object.

        sightword embed photos/ -o vectors.parquet

        sightword embed cat.jpg 'more/*.png' --text "a red car"

        cut -f 2 captions.tsv | sightword embed - -o captions.npy
    """
    with user_errors():
        entries = read_inputs(inputs or [], text or [])
        if output is not None:
            check_name(output)
        with open_backend(url, model, provider) as backend:
            items = [entry.item for entry in entries]
            embedded = backend.embed(
                items,
                dimensions=dimensions,
                truncate=truncate or None,
                output="tokens" if tokens else "vector",
                on_error="item",
                progress=True,
            )
            about = model_of(backend, model)
        failed = {entries[index].key: error for index, error in embedded.errors.items()}
        if output is not None:
            _write(output, entries, embedded, about)
        elif screen.for_people(as_json):
            _show(entries, embedded, about)
        else:
            _print(entries, embedded, about)
    screen.report_failures(failed, len(entries))
    if failed:
        raise typer.Exit(SOME_FAILED)


def _write(output: Path, entries: Sequence[Input], embedded: Embedded, about: ModelInfo) -> None:
    good = [index for index in range(len(entries)) if index not in embedded.errors]
    keys = [entries[index].key for index in good]
    if good:
        write_vectors(output, VectorFile(keys, np.asarray(embedded.vectors[good]), about.id, about.digest))
    written = f"{len(good)} vectors of {about.id}, {_shape(embedded)}, in {output}"
    typer.echo(written if good else f"{output} was not written", err=True)


def _shape(embedded: Embedded) -> str:
    *_, count, dimensions = embedded.vectors.shape
    return f"{dimensions} dimensions" if embedded.vectors.ndim == 2 else f"{count} each, {dimensions} dimensions"


def _print(entries: Sequence[Input], embedded: Embedded, about: ModelInfo) -> None:
    for index, (entry, vector) in enumerate(zip(entries, embedded.vectors, strict=True)):
        if index in embedded.errors:
            screen.write_json(screen.error_json(entry.key, embedded.errors[index]))
        else:
            sys.stdout.buffer.write(json_line(entry.key, vector, about.id, about.digest))


def _show(entries: Sequence[Input], embedded: Embedded, about: ModelInfo) -> None:
    rows = [
        (screen.name_of(entry), "  ".join(f"{number:+.3f}" for number in vector.ravel()[:SHOWN_NUMBERS]) + "  …")
        for index, (entry, vector) in enumerate(zip(entries, embedded.vectors, strict=True))
        if index not in embedded.errors
    ]
    screen.write_table({"item": "left", "vector": "left"}, rows)
    typer.echo(f"{about.id}, {_shape(embedded)}; -o vectors.npy keeps all of them")
