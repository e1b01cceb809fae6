"""`python -m training`: train, evaluate and export a CLIP; build the corpus of the bundled one."""

from __future__ import annotations

import logging

from training.shadowed import refuse_shadowed

refuse_shadowed("model")

from model.requirements import needs  # noqa: E402

with needs("cpu"):
    import typer

    from model.environment import complaints
    from training.commands import corpus
    from training.commands.captions import captions
    from training.commands.categories import categories
    from training.commands.compare import compare
    from training.commands.evaluate import datasets, evaluate
    from training.commands.prepare import prepare
    from training.commands.publish import publish
    from training.commands.report import report
    from training.commands.train import print_config, train

log = logging.getLogger("training")

app = typer.Typer(
    help="Train a CLIP on your own pictures, measure it, and export the bundle that the service serves.\n\n"
    "With no command, it trains the small model on the sample pictures that come along: minutes on two cores.\n\n"
    "Examples:\n\n"
    "  python -m training\n\n"
    "  python -m training config > my.yaml      a commented configuration to start from\n\n"
    "  python -m training train --config my.yaml\n\n"
    "  python -m training compare --config compare.yaml      several objectives side by side\n\n"
    "  python -m training prepare my-pictures --to shards\n\n"
    "  python -m training categories --config my.yaml      what `objective: categories` would learn\n\n"
    "  python -m training evaluate runs/mine/bundle --data 'shards/test-*.tar'\n\n"
    "  python -m training report runs/second --beside runs/first      two runs on one page\n\n"
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
    for complaint in complaints():
        log.warning("%s", complaint)
    if context.invoked_subcommand is None:
        train()


app.command()(train)
app.command("config")(print_config)
app.command()(compare)
app.command()(evaluate)
app.command()(report)
app.command()(datasets)
app.command()(publish)
app.command()(prepare)
app.command()(captions)
app.command()(categories)
app.command("corpus")(corpus.build_corpus)
app.command()(corpus.duplicates)
app.command()(corpus.attributions)

if __name__ == "__main__":
    app(prog_name="python -m training")
