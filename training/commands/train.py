"""`python -m training train` and `config`: one run from a configuration, and a configuration to start from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors
from training.settings import CONFIGS, Settings

SETTINGS = Settings.read()


def train(
    config: Annotated[Path, typer.Option(help="YAML configuration.")] = SETTINGS.config,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; a run found there is continued. [default: runs/NAME]")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Instead of what the file says: optimizer.learning_rate=1e-4; again and again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell parameters, work, memory and time, and do nothing.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option(help="Write TensorBoard's files into the folder of the run.")] = True,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Metrics for Prometheus on this port; 0 picks a free one.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address for that port; 0.0.0.0 for all.")] = "127.0.0.1",
    publish_to: Annotated[
        str | None,
        typer.Option("--publish", help="URL of a running service to put the bundle into, as `publish` does."),
    ] = None,
) -> None:
    """Train, choose the best checkpoint on held-out training items, evaluate it, and export a bundle.

    Examples:

        python -m training train --config my.yaml --dry-run

        python -m training train --config my.yaml --set steps=400 --set optimizer.learning_rate=1e-4 --output runs/short

        torchrun --nproc-per-node 8 -m training train --config my.yaml
    """
    with user_errors():
        from training.config import load_config

        settings = load_config(config, change or ())
        base = config.resolve().parent
        if dry_run:
            from training.plan import plan

            typer.echo(plan(settings, base))
            return
        from training.publishing.publish import PublishTarget, check_target, draw_labelled_images, publish
        from training.report.loggers import LoggerConfig
        from training.run import tests_of, train_and_export

        target = PublishTarget(publish_to) if publish_to else None
        if target:  # what cannot be published should be known before hours of training
            labelled = draw_labelled_images(tests_of(settings, base), settings.templates)
            check_target(settings.name, target)
        loggers = LoggerConfig(tensorboard, metrics_port, metrics_host)
        run = output or SETTINGS.output / settings.name
        bundle = train_and_export(settings, base, run, loggers)
        if bundle is not None and target:
            publish(bundle, target, labelled)
    if bundle is not None:
        typer.echo(f"\nServe it:  SIGHTWORD_MODEL={bundle.path} python -m service")


def print_config() -> None:
    """Print the configuration of the sample run: a commented file to start your own from.

    Example:

        python -m training config > my.yaml
    """
    content = (CONFIGS / "sample.yaml").read_text("utf-8")
    # The shards that come along, wherever the copy will lie.
    here = re.sub(r"\.\./sample/[\w.*-]+", lambda shards: json.dumps(str((CONFIGS / shards[0]).resolve())), content)
    typer.echo(here, nl=False)
