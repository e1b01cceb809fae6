"""`python -m training captions`: how good the captions of a configuration's pictures are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors


def captions(
    config: Annotated[Path, typer.Option(help="YAML configuration whose training data are read.")],
    output: Annotated[Path | None, typer.Option(help="Folder for captions.json and captions.html.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Instead of what the file says: data.captions.teacher=BUNDLE; again and again."),
    ] = None,
) -> None:
    """Tell of each source of captions how long they are, how various, how often repeated, and how they fit.

    How a caption fits its picture is the cosine under data.captions.teacher, a bundle or `stored`. What the filters of
    the configuration would leave out is counted.

    Examples:

        python -m training captions --config my.yaml --output quality

        python -m training captions --config my.yaml --set data.captions.teacher=runs/mine/bundle
    """
    with user_errors():
        from training.config import load_config
        from training.data.caption_quality import judge_captions
        from training.report.caption_report import caption_table, write_caption_report

        settings = load_config(config, change or ())
        quality = judge_captions(settings.data, config.resolve().parent)
        typer.echo(caption_table(quality))
        if output:
            typer.echo(f"report: {write_caption_report(quality, output)}")
