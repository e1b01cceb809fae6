"""The plot of a comparison: a panel for each figure, a row for each run, the mean of its seeds and each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from training.comparison.statistics import Figure, Table
from training.comparison.text_table import heading
from training.report.svg import FAINT, INK, LINE, STYLE, to_svg

COLUMNS = 3
PANEL_WIDTH, ROW_HEIGHT, MARGIN_HEIGHT = 4.0, 0.24, 0.85  # inches
MAX_PANELS = 30
DESCRIPTION = "Every figure by run: the mean of the seeds, and each seed as a point"


def plot(table: Table) -> str:
    """As SVG. The thin bar is the 95 % interval by pictures, the dashed line the mean of the first run."""
    figures = [*table.figures][:MAX_PANELS]
    columns = min(COLUMNS, len(figures))
    rows = math.ceil(len(figures) / columns)
    with mpl.rc_context(STYLE):
        height = MARGIN_HEIGHT + ROW_HEIGHT * len(table.runs)
        canvas = Canvas((PANEL_WIDTH * columns, height * rows))
        canvas.patch.set_alpha(0)
        canvas.set_layout_engine("constrained", w_pad=0.08, h_pad=0.1)
        panels: Sequence[Axes] = canvas.subplots(rows, columns, squeeze=False, sharey=True).flatten().tolist()
        for axes, figure in zip(panels, figures, strict=False):
            _panel(axes, table, figure)
        for axes in panels[len(figures) :]:
            axes.set_axis_off()
        return to_svg(canvas, DESCRIPTION)


def _panel(axes: Axes, table: Table, figure: Figure) -> None:
    axes.patch.set_alpha(0)
    axes.grid(visible=False, axis="y")
    places = range(len(table.runs))
    for place, run in zip(places, table.runs, strict=True):
        cell = table.cells.get((run, figure))
        if cell is None:
            continue
        if run == table.runs[0]:
            axes.axvline(cell.mean, color=FAINT, linewidth=1, linestyle="--")
        if cell.interval is not None:
            axes.hlines(place, *cell.interval, color=FAINT, linewidth=2.5)
        if len(cell.values) > 1:
            axes.plot(cell.values, [place] * len(cell.values), "o", markersize=3, color=INK, alpha=0.55)
        axes.plot([cell.mean], [place], "D", markersize=5.5, color=LINE)
    axes.set_yticks(list(places), labels=list(table.runs))
    axes.set_ylim(len(table.runs) - 0.5, -0.5)
    title, what, _ = heading(table, figure)
    axes.set_title(title, fontsize=9, fontweight="bold", loc="left")
    axes.set_xlabel(f"{what}, {figure.unit}")
