"""`python -m training corpus`, `duplicates` and `attributions`: where training data come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors
from training.settings import Settings

SETTINGS = Settings.read()
SAMPLE = Path(__file__).parents[1] / "sample"


def build_corpus(
    output: Annotated[Path, typer.Option(help="Folder for the shards.")] = SETTINGS.corpus,
    cache: Annotated[Path, typer.Option(help="Folder for downloaded packages.")] = SETTINGS.cache,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photograph shards; linked as `photos` beside the output.")
    ] = SETTINGS.photos,
    sample: Annotated[bool, typer.Option("--sample", help="Build the repository's sample shards instead.")] = False,
) -> None:
    """Build the drawings that the bundled checkpoint learned from, out of the public package registries.

    Needs npm and apt-get. Every download is checked against the SHA-256 in training/corpus/sources.json.
    """
    with user_errors():
        from training import corpus
        from training.progress import announced

        if sample:
            with announced("building the sample shards"):
                corpus.build_sample(SAMPLE, cache)
            return
        if photos:
            link = output.parent / "photos"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(photos.resolve(), target_is_directory=True)
        with announced(f"building the corpus in {output}"):
            corpus.build(output, cache)


def duplicates(
    train_shards: Annotated[
        list[str],
        typer.Option("--train", help="Training shards, also as a quoted pattern; may be given several times."),
    ],
    test_shards: Annotated[
        list[str], typer.Option("--test", help="Test shards, also as a quoted pattern; may be given several times.")
    ],
) -> None:
    """List training pictures that equal, or nearly equal, a test picture. Exits with 1 if there are any.

    Example:

        python -m training duplicates --train 'shards/train-*.tar' --test 'shards/test-*.tar'
    """
    with user_errors():
        from training.corpus.duplicates import find_duplicates
        from training.data.shards import find_shards
        from training.progress import announced

        with announced("comparing the pictures"):
            found = find_duplicates(*(find_shards(patterns, Path.cwd()) for patterns in (train_shards, test_shards)))
    for duplicate in found:
        typer.echo(str(duplicate))
    typer.echo(f"{len(found)} training pictures are also in the tests")
    if found:
        raise typer.Exit(1)


def attributions(
    config: Annotated[Path, typer.Option(help="Configuration whose training shards are listed.")],
    output: Annotated[
        Path, typer.Option(help="Tab-separated file to write; compressed where it ends with .gz.")
    ] = Path("ATTRIBUTIONS.tsv"),
) -> None:
    """List the authors and licences that must be named with a checkpoint trained by this configuration.

    Example:

        python -m training attributions --config my.yaml --output ATTRIBUTIONS.tsv
    """
    with user_errors():
        from training.config import load_config
        from training.report.attributions import count_attributions, training_shards, write_attributions

        count = write_attributions(
            count_attributions(training_shards(load_config(config), config.resolve().parent)), output
        )
    typer.echo(f"{output}: authors of {count} pictures")
