"""`python -m training prepare`: shards out of folders, tables and other shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.common import user_errors

if TYPE_CHECKING:
    from training.data.fingerprints import Duplicate

MAX_PRINTED = 10  # repetitions that are printed; all of them are in the file


def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders of pictures with captions beside them or one folder a label; CSV, TSV, JSON lines or Parquet "
            "files; shards. Patterns in quotes: 'a-{000..099}.tar', 'tables/*.parquet'.",
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder for the shards.")],
    name: Annotated[str, typer.Option(help="What the shards are called: NAME-000000.tar and on.")] = "train",
    shard_size: Annotated[int, typer.Option(min=1, help="Pictures in a shard.")] = 5000,
    pixels: Annotated[
        int | None,
        typer.Option(
            "--pixels",
            "--size",
            min=1,
            help="Reduce pictures whose short side is longer than this, and keep their shape. With `data.store_pixels` "
            "of the run they are decoded six times as fast as those of 640x480. [default: none]",
        ),
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(min=1, help="Skip pictures of more pixels than this. [default: as training does]")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="A test, in any form: pictures that equal or nearly equal one of it are left out."),
    ] = None,
    picture: Annotated[str | None, typer.Option(help="Column of a table that holds the picture or its path.")] = None,
    caption: Annotated[list[str] | None, typer.Option(help="Column that holds captions; again and again.")] = None,
    label: Annotated[str | None, typer.Option(help="Column that holds the label.")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Between the cells of a CSV file. [default: found out]")] = None,
    quoting: Annotated[str | None, typer.Option(help="none: quotation marks are as they stand. [default: csv]")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of tables and text files without a mark of their own. [default: utf-8]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the shards of that name.")] = False,
) -> None:
    """Write WebDataset shards, which training reads fastest, and keep the pictures of a test out of them.

    Examples:

        python -m training prepare my-pictures --to shards --pixels 256

        python -m training prepare captions.csv --picture file --caption text --to shards --against 'tests/*.tar'
    """
    with user_errors():
        import yaml

        from model.images.preprocessing import MAX_PIXELS
        from training.config import Columns
        from training.data.prepare import PrepareOptions, parse_source
        from training.data.prepare import prepare as write
        from training.data.shard_writer import JPEG_QUALITY

        columns = Columns(picture=picture, captions=caption or [], label=label)
        format_options = {"delimiter": delimiter, "quoting": quoting, "encoding": encoding}
        prepared = write(
            [parse_source(source, columns, **format_options) for source in sources],
            [parse_source(test, columns, **format_options) for test in against or ()],
            PrepareOptions(to, name, shard_size, pixels, max_pixels or MAX_PIXELS, overwrite),
        )
        if prepared.repeated:
            _report_duplicates(prepared.repeated, to / f"{name}-repeated.tsv")
    typer.echo(
        f"{prepared.samples:,} pictures in {len(prepared.shards):,} shards; skipped {prepared.skipped.with_examples()}"
    )
    if prepared.encoded:
        typer.echo(
            f"{prepared.encoded:,} of them were reduced or come from a format that training does not read: they are "
            f"JPEG of quality {JPEG_QUALITY} now, PNG where they are transparent, upright and without EXIF"
        )
    typer.echo("\nFor the configuration:\n")
    lines = {"train": [{"shards": [f"{to.resolve()}/{name}-*.tar"]}]}
    typer.echo(yaml.safe_dump({"data": lines}, sort_keys=False, width=1000), nl=False)


def _report_duplicates(repeated: list[Duplicate], file: Path) -> None:
    """Print the first few, and write all of them into `file`."""
    rows = [f"{each.train_key}\t{each.test_key}\t{each.difference:.2f}\n" for each in repeated]
    file.write_text("picture\ttest picture\tdifference in grey levels\n" + "".join(rows), "utf-8")
    for each in repeated[:MAX_PRINTED]:
        typer.echo(f"left out {each.train_key}: {'' if each.exact else 'nearly '}{each.test_key} of the test")
    typer.echo(f"{len(repeated):,} pictures are also in the test and were left out; all are listed in {file}")
