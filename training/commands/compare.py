"""`python -m training compare`: several trainings on the same data and schedule, and one table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors
from training.settings import CONFIGS, Settings

SETTINGS = Settings.read()


def compare(
    config: Annotated[
        Path, typer.Option(help="YAML file: a base configuration, runs that change it, seeds, and what to measure.")
    ] = CONFIGS / "compare.yaml",
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the comparison; what is done there is not done again. [default: runs/FILE]"),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A field of every run instead of what the files say: steps=50; again and again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be run and about how long it takes, and do nothing.")
    ] = False,
) -> None:
    """Train objectives, towers or settings side by side on the same samples, with several seeds, and compare them.

    Each run is trained in a process of its own, exported, and measured as it would be served; `report.html` and
    `compare.json` in the folder of the comparison hold the table, a plot and every figure. Give the same command again
    where it was interrupted.

    Examples:

        python -m training compare --dry-run

        python -m training compare --config compare.yaml --output runs/compared
    """
    with user_errors():
        from training.comparison.config import load_comparison
        from training.comparison.run import compare as run_comparison
        from training.comparison.run import describe

        folder = output or SETTINGS.output / config.stem
        comparison = load_comparison(config, folder, change or ())
        if dry_run:
            typer.echo(describe(comparison, folder))
            return
        table, report = run_comparison(comparison, folder)
    typer.echo(f"{table}\n\nreport: {report}")
