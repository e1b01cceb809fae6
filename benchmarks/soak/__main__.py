"""python -m benchmarks.soak: the promises that hold only if they hold for long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from model.requirements import needs

with needs("dev"):
    import typer

    from model.commands.common import one_of

SIZES = ("full", "quick", "smallest")
PHASES = ("texts", "pictures", "memory", "fairness", "redis", "reload", "stop")
RESULTS = Path(__file__).parents[1] / "results"
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def soak(
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.", callback=one_of(*SIZES))] = "full",
    phase: Annotated[
        list[str] | None, typer.Option(help=f"Only these, of {', '.join(PHASES)}.", callback=one_of(*PHASES))
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The model to serve; the bundled one if not given.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for the reports.")] = RESULTS,
) -> None:
    """Run the service under load for a quarter of an hour (full) or two minutes (quick); exit 1 if a promise breaks.

    Examples:

        python -m benchmarks.soak --size quick

        python -m benchmarks.soak --phase texts --phase stop --bundle runs/mine/bundle
    """
    with needs("dev"):
        from benchmarks.soak.run import run

    if not run(size, phase or (), bundle, results):
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.soak")
