"""`python -m benchmarks.bundled RUN`: what the model card of the bundled checkpoint shows of the run it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from model.requirements import needs

with needs("dev"):
    import typer

CONFIG = Path("training/configs/bundled.yaml")
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def main(
    run: Annotated[Path, typer.Argument(help="Folder of the run, with its bundle and metrics.jsonl.")],
    config: Annotated[Path, typer.Option(help="Of the run; its tests are measured.")] = CONFIG,
) -> None:
    """Draw the pictures of the model card into docs/bundled, and print its tables.

    Example:

        python -m benchmarks.bundled runs/sightword-small
    """
    with needs("dev"):
        from benchmarks.bundled.drawing import draw

    typer.echo("\n\n".join(draw(run, config)))


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.bundled")
