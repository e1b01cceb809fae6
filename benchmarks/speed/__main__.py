"""python -m benchmarks.speed: how fast the service is, beside the bare model and beside other services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from model.requirements import needs

with needs("dev"):
    import typer

    from model.commands.common import one_of

SIZES = ("full", "quick", "smallest")
PHASES = ("generator", "ladder", "loops", "peers", "cache", "camera", "start", "memory", "ceiling")
PROVIDERS = ("cpu", "cuda", "tensorrt", "openvino")
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def speed(
    size: Annotated[str, typer.Option(help=f"One of {', '.join(SIZES)}.", callback=one_of(*SIZES))] = "full",
    phase: Annotated[
        list[str] | None, typer.Option(help=f"Only these, of {', '.join(PHASES)}.", callback=one_of(*PHASES))
    ] = None,
    bundle: Annotated[list[Path] | None, typer.Option(help="Only these models, by the folder of their bundle.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often each reading is taken.")] = None,
    provider: Annotated[str, typer.Option(help=f"One of {', '.join(PROVIDERS)}.", callback=one_of(*PROVIDERS))] = "cpu",
    json: Annotated[Path | None, typer.Option(help="Where to write the readings; results/speed-DATE.json.")] = None,
) -> None:
    """Measure the ladder from the bare model to HTTP.

    Examples:

        python -m benchmarks.speed --size quick

        python -m benchmarks.speed --phase ladder --bundle runs/mine/bundle --rounds 3 --json run.json
    """
    with needs("dev"):
        from benchmarks.speed.run import run

    if not run(size, phase or (), bundle or (), rounds, provider, json):
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.speed")
