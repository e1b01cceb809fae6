"""Embedding functions for programs that find one in a registry of their own, and not at a URL.

`langchain`, `llama_index`, `chroma` and `lancedb`: each module imports the package it is named after, and nothing else
does. They ask the service at `url`, or at SIGHTWORD_URL; where neither is set, a model in this process.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

import sightword

if TYPE_CHECKING:
    from sightword.local.embedder import Local


def open_model(
    url: str | None = None, api_key: str | None = None, model: str | None = None
) -> sightword.Client | Local:
    """A client of the service, or a model in this process. It is opened once, however often it is asked for."""
    return _open(url or os.environ.get("SIGHTWORD_URL"), api_key or os.environ.get("SIGHTWORD_API_KEY"), model)


@cache
def _open(url: str | None, api_key: str | None, model: str | None) -> sightword.Client | Local:
    return sightword.Client(url, api_key, model) if url else sightword.load(model)


def picture(uri: str | Path) -> Path | sightword.Image:
    """The picture at a path, a `file:` URI, or a URL that the service is to fetch."""
    parts = urlsplit(str(uri))
    if parts.scheme in ("http", "https"):
        return sightword.Image(url=str(uri))
    return Path(url2pathname(parts.path) if parts.scheme == "file" else uri)
