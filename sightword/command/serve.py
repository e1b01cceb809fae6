"""`sightword serve` and `sightword bulk`: the commands of `python -m service`, with their options."""

from __future__ import annotations

import gc

import typer

# Its options are those of another program, which takes most of a second to import: they are read there.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def serve(context: typer.Context) -> None:
    """Serve a model over HTTP. `sightword serve --help` has every option; SIGHTWORD_... variables set the same.

    sightword serve --port 8000

    SIGHTWORD_MODEL=ViT-B-32 sightword serve
    """
    _run(context.args, "sightword serve")


def bulk(context: typer.Context) -> None:
    """Embed many pictures or texts into a folder of vectors; goes on where it was ended. `sightword bulk --help`.

    sightword bulk photos --output vectors
    """
    _run(["bulk", *context.args], "sightword")


def _run(arguments: list[str], name: str) -> None:
    gc.disable()  # as in service/__main__.py
    from model.requirements import needs

    with needs("cpu"):
        from service.command import app
    app(arguments, prog_name=name)
