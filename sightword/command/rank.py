"""`sightword rank`: pictures by how well they fit a text or another picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from sightword.command import screen, thumbnails
from sightword.command.backend import ModelOption, ProviderOption, UrlOption, model_of, open_backend
from sightword.command.inputs import Input, read_inputs, read_query
from sightword.command.screen import JsonOption
from sightword.command.status import SOME_FAILED, UsageError, user_errors
from sightword.results import Ranked
from sightword.scores import cosines_of, ranking_of


def rank(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="PICTURES... QUERY", help="Pictures, folders, patterns or -; then the query."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Show so many.")] = 10,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put pictures into the order in which they fit a query, best first. The query is a text, or a picture.

    To ask more than once, keep the vectors: `sightword embed`, then `sightword search`.

        sightword rank photos/ "a dog on grass"

        sightword rank photos/ one-of-them.jpg --top 5

        sightword rank - "an animal" < nouns.txt
    """
    with user_errors():
        if len(inputs) < 2:
            raise UsageError('Give pictures, and last what they are to fit: sightword rank photos/ "a dog on grass"')
        query, entries = read_query(inputs[-1]), read_inputs(inputs[:-1])
        with open_backend(url, model, provider) as backend:
            about = model_of(backend, model)
            items = [entry.item for entry in entries]
            mixes = about.mixture_tokens is not None and not all(isinstance(item, str) for item in (query, *items))
            embedded = backend.embed(items, on_error="item", progress=True, output="tokens" if mixes else "vector")
            good = [index for index in range(len(entries)) if index not in embedded.errors]
            if mixes:  # the pictures that can be read, each mixed for the query
                found = backend.rank(query, [items[index] for index in good], top_n=top) if good else []
            else:
                [vector] = backend.embed([query])
                about = model_of(backend, model)
                found = ranking_of(cosines_of(vector[np.newaxis], embedded.vectors[good])[0], about, top)
        show_ranking({place: entries[index] for place, index in enumerate(good)}, found, as_json)
    failed = {entries[index].key: error for index, error in embedded.errors.items()}
    screen.report_failures(failed, len(entries))
    if failed:
        raise typer.Exit(SOME_FAILED)


def show_ranking(entries: Mapping[int, Input], found: Sequence[Ranked], as_json: bool) -> None:
    """The best, best first, each with its score from 0 to 1 and its cosine."""
    if not screen.for_people(as_json):
        for each in found:
            screen.write_json({"key": entries[each.index].key, "score": each.score, "cosine": each.cosine})
        return
    best = (entries[each.index].item for each in found)
    thumbnails.show([item for item in best if isinstance(item, Path)])
    rows = (
        (str(place), screen.name_of(entries[each.index]), f"{each.cosine:.3f}", screen.bar(each.cosine))
        for place, each in enumerate(found, 1)
    )
    screen.write_table({"": "right", "item": "left", "cosine": "right", " ": "left"}, rows)
