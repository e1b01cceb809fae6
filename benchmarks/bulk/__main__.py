"""python -m benchmarks.bulk: how much of the machine embedding in bulk turns into vectors, and how much others do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from model.requirements import needs

with needs("dev"):
    import typer

app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def bulk(
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Only these models; ViT-B/32 with random weights, and the bundled one.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each way is taken.")] = 5,
    pictures: Annotated[int, typer.Option(min=1, help="JPEGs of 640x480.")] = 256,
    texts: Annotated[int, typer.Option(min=1, help="Texts of about ten words.")] = 2_048,
    report: Annotated[Path | None, typer.Option(help="Where to write the tables; standard output.")] = None,
) -> None:
    """Embed the same files in each way in turn, in rounds; ratios are taken within a round.

    Examples:

        python -m benchmarks.bulk

        python -m benchmarks.bulk --bundle model/bundled/sightword-small --rounds 3 --report bulk.md
    """
    with needs("dev"):
        from benchmarks.bulk.run import run

    text = run(bundle or (), rounds, pictures, texts)
    if report is None:
        typer.echo(text)
    else:
        report.write_text(text, "utf-8")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.bulk")
