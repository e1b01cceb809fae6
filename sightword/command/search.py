"""`sightword search`: in vectors that `sightword embed` wrote."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from sightword.command.backend import Backend, ModelOption, ProviderOption, UrlOption, model_of, open_backend
from sightword.command.inputs import Input, read_query
from sightword.command.rank import show_ranking
from sightword.command.screen import JsonOption
from sightword.command.status import UsageError, user_errors
from sightword.command.vector_file import VectorFile, read_vectors
from sightword.errors import ModelError
from sightword.scores import cosines_of, ranking_of


def search(
    vectors: Annotated[Path, typer.Argument(help="A file of `sightword embed`: .parquet, .npy or .jsonl.")],
    query: Annotated[str, typer.Argument(help="A text, or a picture.")],
    top: Annotated[int, typer.Option(min=1, help="Show so many.")] = 10,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what fits a query best among vectors that were kept. The query is embedded by the model that made them.

    It compares with every vector, which takes less than a second for a million; above that, use a vector store.

        sightword embed photos/ -o vectors.parquet

        sightword search vectors.parquet "red car"

        sightword search vectors.parquet like-this.jpg --json | jq -r .key
    """
    with user_errors():
        item, kept = read_query(query), read_vectors(vectors)
        with _open_model_of(kept, url, model, provider) as backend:
            about = model_of(backend, model)
            if about.digest != kept.digest:
                raise UsageError(
                    f"{vectors} holds vectors of {kept.model} ({kept.digest[:12]}), which cannot be compared with "
                    f"those of {about.id} ({about.digest[:12]}): name its model with --model, or embed them again."
                )
            [vector] = backend.embed([item], dimensions=kept.vectors.shape[1])
        found = ranking_of(cosines_of(vector[np.newaxis], kept.vectors)[0], about, top)
        show_ranking({each.index: _entry(kept.keys[each.index]) for each in found}, found, as_json)


def _entry(key: str) -> Input:
    """Of a picture, where the file is still there."""
    return Input(key, Path(key) if os.path.isfile(key) else key)  # noqa: PTH113  # False for what can be no path


def _open_model_of(kept: VectorFile, url: str | None, model: str | None, provider: str) -> Backend:
    """Where none is named, that which made the vectors, if it is known by its name."""
    backend = open_backend(url, model, provider)
    if model is not None or backend.info().model().digest == kept.digest:
        return backend
    try:
        return open_backend(url, kept.model, provider)
    except ModelError:
        return backend
