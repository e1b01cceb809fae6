"""`python -m training report`: two runs side by side on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.commands.common import user_errors


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    beside: Annotated[Path, typer.Option(help="The folder of another run, which it is laid beside.")],
    config: Annotated[
        Path | None, typer.Option(help="Measure both, now, on the tests of this configuration, and show pictures.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="The same on these data, as `evaluate` takes them; again and again.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page to write. [default: report-beside-OTHER.html in RUN]")
    ] = None,
) -> None:
    """Lay two runs side by side: curves, settings, scores with intervals, pictures that only one finds, time, memory.

    Scores are those that each run ended with. With --config or --data both are measured anew on the same pictures, also
    runs that still train, and some are shown that one finds and the other mistakes. The page is one file that asks for
    nothing else.

    Examples:

        python -m training report runs/second --beside runs/first

        python -m training report runs/second --beside runs/first --config my.yaml
    """
    with user_errors():
        from training.commands.evaluate import datasets_of
        from training.comparison.beside import write_beside
        from training.config import ConfigError
        from training.evaluation.evaluator import EvaluationOptions

        if config and data:
            raise ConfigError("--config and --data both say what is measured: give one of them")
        specs, templates, _ = datasets_of(data, config) if config or data else ([], None, None)
        if config and not specs:
            raise ConfigError(f"{config} names no tests: give its data.test some, or --data")
        page = output or run / f"report-beside-{beside.resolve().name}.html"
        written = write_beside(run, beside, page, specs, EvaluationOptions(templates=templates))
    typer.echo(f"report: {written}")
