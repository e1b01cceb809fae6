"""Who computes: the service at SIGHTWORD_URL or --url, or else a model in this process."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

import sightword
from sightword.client import Client
from sightword.command.status import UsageError
from sightword.results import ModelInfo

if TYPE_CHECKING:
    from sightword.local.embedder import Local

Backend: TypeAlias = "Client | Local"
URL_VARIABLE = "SIGHTWORD_URL"

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", help="A service to ask, instead of computing here. (SIGHTWORD_URL; its key: SIGHTWORD_API_KEY)"
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Folder of a bundle, or a model that was pulled by `python -m model pull`; with a service, one that it "
        "serves. [default: the model that comes along, or the first of the service]",
    ),
]
ProviderOption = Annotated[
    str, typer.Option("--provider", help="What computes here: auto, cpu, cuda, tensorrt or openvino.")
]


def open_backend(url: str | None, model: str | None, provider: str = "auto") -> Backend:
    """A client of a service if there is a URL, else a model, opened here. Raises SightwordError, UsageError."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if url := url or os.environ.get(URL_VARIABLE):
        return open_client(url, model)
    return sightword.load(model, provider)


def open_client(url: str | None, model: str | None = None) -> Client:
    """A client of the service there, by default of SIGHTWORD_URL or of this machine. Raises UsageError."""
    try:
        return Client(url, model=model)
    except ValueError as error:
        raise UsageError(str(error)) from error


def model_of(backend: Backend, model: str | None) -> ModelInfo:
    """What is known of the model that computes. Raises SightwordError."""
    return backend.info().model(model if isinstance(backend, Client) else None)
