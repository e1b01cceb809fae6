"""python -m benchmarks.gpu_check: whether what is promised of a GPU holds on this one."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

from model.requirements import needs

with needs("dev"):
    import typer

    from model.commands.common import one_of

DEVICES = ("cuda", "cpu")
NAMES = (
    "environment", "models", "parity", "placement", "ladder", "service", "memory", "soak", "training", "decoding"
)  # fmt: skip
ROOT = Path(__file__).parents[2]
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command()
def gpu_check(
    device: Annotated[str, typer.Option(help=f"One of {', '.join(DEVICES)}.", callback=one_of(*DEVICES))] = "cuda",
    quick: Annotated[
        bool, typer.Option("--quick", help="Only to see that everything runs: no speed is judged.")
    ] = False,
    section: Annotated[
        list[str] | None, typer.Option(help=f"Only these, of {', '.join(NAMES)}.", callback=one_of(*NAMES))
    ] = None,
    budget_s: Annotated[
        float, typer.Option(help="Seconds of all sections together; with more than 590, each may take longer.")
    ] = 590.0,
    page: Annotated[
        Path | None,
        typer.Option(
            help="The page to write; benchmarks/RESULTS-DEVICE.md if not given, or without a GPU in the folder."
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where models and logs go; with --section, those that are there are used again.")
    ] = ROOT / ".bench" / "gpu-check",
) -> None:
    """Run every section in turn and write the page after each; exit 1 if a promise is broken or a section fails.

    Examples:

        python -m benchmarks.gpu_check

        python -m benchmarks.gpu_check --device cpu --quick
    """
    # Sections are sessions of their own: what ends this process must pass through where they are ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with needs("dev"):
        from benchmarks.gpu_check.device import has_gpu
        from benchmarks.gpu_check.findings import Options
        from benchmarks.gpu_check.report import page_name
        from benchmarks.gpu_check.run import check, clear

    if not section or not folder.exists():
        clear(folder)
    page = page or (ROOT / "benchmarks" if has_gpu(device) else folder) / page_name(device)
    kept = check(Options(device, quick, folder.resolve()), page, budget_s, section or ())
    print(f"{'every promise that was judged was kept' if kept else 'NOT EVERYTHING HOLDS'}; written: {page}")
    if not kept:
        raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.gpu_check")
