"""python -m training publish: a bundle into a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors
from training.commands.evaluate import datasets_of


def publish(
    bundle: Annotated[Path, typer.Argument(help="The bundle, as in the folder of a run.")],
    to: Annotated[str, typer.Option(help="The service, as http://127.0.0.1:8000.")],
    check: Annotated[
        list[str] | None,
        typer.Option(help="Labelled pictures to judge it by, as --data of evaluate."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Judge by the first test of this configuration instead.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder that is served, where the service knows it by another path.")
    ] = None,
    replace: Annotated[
        str | None,
        typer.Option(help="Id of the model whose place and name it takes; by default its own."),
    ] = None,
) -> None:
    """Put a bundle into a running service without losing a request, and back if the service then answers worse.

    The service must serve a folder that is also reachable here. The old bundle stays beside it. Before and after, the
    service itself classifies up to 400 labelled pictures; one right answer less, and the old bundle is put back and the
    exit code is 1. SIGHTWORD_ADMIN_KEY holds the admin key of the service.

    Example:

        python -m training publish runs/mine/bundle --to http://127.0.0.1:8000 --check 'shards/test-*.tar'
    """
    with user_errors():
        from model.bundle import Bundle
        from model.zeroshot import DEFAULT_TEMPLATES
        from training.publishing.publish import PublishTarget, draw_labelled_images
        from training.publishing.publish import publish as publish_bundle

        specs, templates, _ = datasets_of(check, config)
        labelled = draw_labelled_images(specs, templates or DEFAULT_TEMPLATES)
        publish_bundle(Bundle.load(bundle), PublishTarget(to, folder, replace), labelled)
