"""What is left of a comparison: compare.json with every figure, and report.html to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from model.files import write_atomically
from training.comparison.config import Comparison
from training.comparison.plot import plot
from training.comparison.statistics import Cell, Figure, Table
from training.comparison.supervisor import Outcome
from training.comparison.text_table import format_cell, format_difference, format_value, heading
from training.report.pages import stylesheet, templates

RECORD, REPORT = "compare.json", "report.html"


def write_comparison(comparison: Comparison, outcomes: Sequence[Outcome], table: Table, output: Path) -> Path:
    """Write both into the folder of the comparison; returns the report."""
    with write_atomically(output / RECORD) as draft:
        draft.write_text(json.dumps(_record(comparison, outcomes, table), indent=2) + "\n", "utf-8")
    page = templates().get_template("comparison.html.j2")
    first = comparison.trainings[0].config
    context = {
        "name": output.name,
        "style": stylesheet(),
        "table": table,
        "plot": plot(table) if table.figures else "",
        "runs": [(run, _as_yaml(comparison.changes(run)), comparison.other_batches(run)) for run in comparison.runs],
        "seeds": comparison.config.seeds,
        "base": Path(comparison.config.base).name,
        "set": _as_yaml(comparison.config.set),
        "steps": first.steps,
        "batch_size": first.batch_size,
        "notes": notes(comparison, outcomes),
        "heading": lambda figure: heading(table, figure),
        "cell": lambda run, figure: _cell(figure, table.cells.get((run, figure))),
    }
    with write_atomically(output / REPORT) as draft:
        draft.write_text(page.render(**context), "utf-8")
    return output / REPORT


def notes(comparison: Comparison, outcomes: Sequence[Outcome]) -> list[str]:
    """What has to be known to read the table: what failed, what could not be measured, what is not alike."""
    failed = [f"{outcome.planned} FAILED: {outcome.reason}" for outcome in outcomes if outcome.record is None]
    refused: dict[tuple[str, str, str], dict[str, None]] = {}  # tests, each once, by run, task and reason
    for outcome in outcomes:
        for what, reason in (outcome.record or {}).get("refused", {}).items():
            test, _, task = what.rpartition(", ")
            refused.setdefault((outcome.planned.run, task, reason.removeprefix(f"{test}: ")), {})[test] = None
    left_out = [
        f"{run}: {task} of {', '.join(tests)} is not measured: {reason}"
        for (run, task, reason), tests in refused.items()
    ]
    unlike = [
        f"{run} has other batches or another schedule than the rest: {', '.join(fields)}"
        for run in comparison.runs
        if (fields := comparison.other_batches(run))
    ]
    return [*failed, *left_out, *unlike]


def _cell(figure: Figure, cell: Cell | None) -> dict[str, Any] | None:
    """What the page shows of a cell."""
    if cell is None:
        return None
    return {
        "mean": format_value(figure, cell.mean),
        "all": format_cell(figure, cell),
        "low": format_value(figure, cell.low),
        "high": format_value(figure, cell.high),
        "several": len(cell.values) > 1,
        "interval": [format_value(figure, bound) for bound in cell.interval] if cell.interval else None,
        "difference": format_difference(figure, cell),
        "stands_out": cell.stands_out,
    }


def _record(comparison: Comparison, outcomes: Sequence[Outcome], table: Table) -> dict[str, Any]:
    return {
        "seeds": comparison.config.seeds,
        "measure": comparison.measure.model_dump(mode="json"),
        "runs": {run: comparison.changes(run) for run in comparison.runs},
        "notes": notes(comparison, outcomes),
        "figures": [_figure_record(table, figure) for figure in table.figures],
        "trainings": [
            {
                "run": outcome.planned.run,
                "seed": outcome.planned.seed,
                "folder": outcome.planned.folder,
                **({"failed": outcome.reason} if outcome.record is None else {"costs": outcome.record["costs"]}),
            }
            for outcome in outcomes
        ],
    }


def _figure_record(table: Table, figure: Figure) -> dict[str, Any]:
    cells = {run: cell for run in table.runs if (cell := table.cells.get((run, figure))) is not None}
    return {
        "title": figure.title, "task": figure.task, "metric": figure.metric, "unit": figure.unit,
        "pictures": figure.images,
        "runs": {
            run: {
                "seeds": [round(value, 4) for value in cell.values],
                "mean": round(cell.mean, 4),
                "range": [round(cell.low, 4), round(cell.high, 4)],
                "interval_95_by_pictures": [round(bound, 4) for bound in cell.interval] if cell.interval else None,
                "difference": None if cell.difference is None else round(cell.difference, 4),
                "stands_out": cell.stands_out,
            }
            for run, cell in cells.items()
        },
    }  # fmt: skip


def _as_yaml(fields: dict[str, Any]) -> str:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).strip() if fields else ""
