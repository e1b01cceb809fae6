"""`sightword serve`: the service, with the options of `python -m service`."""

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
    gc.disable()  # as in service/__main__.py
    from model.requirements import needs

    with needs("cpu"):
        from service.command import app
    app(context.args, prog_name="sightword serve")
