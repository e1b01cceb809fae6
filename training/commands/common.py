"""What the commands share: each imports what it needs when it runs, so that `--help` takes no time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from model.requirements import needs
from model.suggestions import did_you_mean_path

# What a user can mend; anything else is a mistake of ours and deserves its traceback. By name, as these modules take
# seconds to import and the one that raises has been imported anyway.
USER_ERRORS = frozenset(
    {
        "builtins.FloatingPointError",
        "builtins.OSError",
        "model.manifest.BundleError",
        "model.checkpoints.checkpoint.CheckpointError",
        "model.export.comparison.ExportError",
        "model.images.errors.ImageError",
        "model.runtime.providers.EngineError",
        "model.tokenizers.clip.UnknownTextError",
        "model.zeroshot.TemplateError",
        "training.config.errors.ConfigError",
        "training.corpus.packages.FetchError",
        "model.data.tar_members.ShardError",
        "training.evaluation.datasets.split.DataError",
        "training.publishing.service_client.PublishError",
    }
)


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with the message of what a user can mend or must install, not with a traceback."""
    with needs("training"):
        try:
            yield
        except Exception as error:
            if not USER_ERRORS.intersection(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__):
                raise
            near = did_you_mean_path(error.filename) if isinstance(error, FileNotFoundError) and error.filename else ""
            typer.echo(f"{error}{near}", err=True)
            raise typer.Exit(1) from error
