"""`python -m training categories`: what the nouns of a training set become, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors


def categories(
    config: Annotated[Path, typer.Option(help="YAML configuration whose data are looked at.")],
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Instead of what the file says: objective.categories.min_count=10; again and again."
        ),
    ] = None,
    shown: Annotated[int, typer.Option(min=0, help="Print so many, the most frequent first.")] = 50,
    output: Annotated[
        Path | None, typer.Option(help="Write all of them here, for objective.categories.vocabulary.")
    ] = None,
) -> None:
    """Print the categories that a run with `objective: categories` would learn, and in how many pictures each is.

    They are the WordNet synsets of the nouns in captions, labels and tags, as far as they are frequent. The file that
    --output writes can be changed by hand and named in the configuration.

    Example:

        python -m training categories --config my.yaml --set objective.categories.min_count=10
    """
    with user_errors():
        from training.categories.vocabulary import describe_vocabulary
        from training.config import ConfigError, load_config
        from training.run_categories import choose_categories

        settings = load_config(config, ["objective.kind=categories", *(change or ())])
        chosen = choose_categories(settings, config.resolve().parent)
        if chosen is None:
            raise ConfigError("--set objective: it is categories here, whatever the file says: leave it away")
        typer.echo(describe_vocabulary(chosen.vocabulary, shown=shown))
        without = int((chosen.of_samples.of_samples.counts == 0).sum())
        typer.echo(f"\n{without:,} pictures have none of them and would take no part")
        if output:
            chosen.vocabulary.write(output)
