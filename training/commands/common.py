"""What the commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from model.bundle import BundleError
from model.checkpoints.checkpoint import CheckpointError
from model.engine import EngineError
from model.export import ExportError
from model.preprocessing import ImageError
from model.zeroshot import TemplateError
from training.config import ConfigError
from training.corpus.fetch import FetchError
from training.data.shards import ShardError
from training.evaluation.datasets import DataError
from training.publishing.remote import PublishError

# What a person can mend; anything else is a mistake of ours and deserves its traceback.
MENDABLE = (
    BundleError, CheckpointError, ConfigError, DataError, EngineError, ExportError, FetchError, FloatingPointError,
    ImageError, OSError, PublishError, ShardError, TemplateError,
)  # fmt: skip


@contextmanager
def mendable() -> Iterator[None]:
    """End the program with the message of what a person can mend, not with a traceback."""
    try:
        yield
    except MENDABLE as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
