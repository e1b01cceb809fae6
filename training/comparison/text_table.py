"""The table of a comparison for a terminal: blocks of as many columns as 120 characters hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from training.comparison.statistics import Cell, Figure, Table

WIDTH = 120
GAP = "  "
MAX_HEADING = 36  # characters of a name
LEGEND = """\
Mean over the seeds (lowest-highest), and the difference to the first run, seed by seed; of costs as a share.
* : no seed of the one is among those of the other, and the difference is larger than what the seeds of either
span and than half of the 95 % interval by pictures (of the first run: ± in the heading). It is no test of
significance: of two seeds each, one pair in three is apart by chance."""


def text_table(table: Table) -> str:
    """Rows are runs, columns figures."""
    names = ["", "", "", *table.runs]
    columns = [_column(table, figure) for figure in table.figures]
    blocks, left = [], columns
    while left:
        taken = _fitting(names, left)
        blocks.append(_format(names, left[:taken]))
        left = left[taken:]
    return "\n\n".join([*blocks, LEGEND])


def format_value(figure: Figure, value: float) -> str:
    """With as many digits as say something."""
    return f"{value:.1f}" if figure.unit == "%" or abs(value) < 100 else f"{value:,.0f}"


def format_cell(figure: Figure, cell: Cell) -> str:
    """`34.2 (33.1 to 35.3)`, without a range that says nothing."""
    mean, low, high = (format_value(figure, value) for value in (cell.mean, cell.low, cell.high))
    return mean if low == high else f"{mean} ({low}-{high})"


def format_difference(figure: Figure, cell: Cell) -> str:
    """In points; of a cost as a share of the first run's."""
    if cell.difference is None:
        return ""
    before = cell.mean - cell.difference
    value = 100 * cell.difference / before if figure.is_cost and before else cell.difference
    text = f"{value:+.0f} %" if figure.is_cost else f"{value:+.1f}"
    return text.replace("-", "+") if not text.strip("+-0. %") else text


def heading(table: Table, figure: Figure) -> tuple[str, str, str]:
    """Data set; task and metric; unit, half of the interval by pictures of the first run, and how many pictures.

    Of a cost its name.
    """
    if figure.is_cost:
        return "cost", figure.title, figure.unit
    first = table.cells.get((table.runs[0], figure))
    around = f" ±{(first.interval[1] - first.interval[0]) / 2:.1f}" if first and first.interval else ""
    return (
        figure.title,
        f"{figure.task}, {figure.metric}" if figure.task != "mean" else figure.metric,
        f"%{around}, {figure.images:,} pictures",
    )


def _column(table: Table, figure: Figure) -> list[str]:
    cells = []
    for run in table.runs:
        cell = table.cells.get((run, figure))
        parts = [format_cell(figure, cell), format_difference(figure, cell)] if cell else ["-"]
        cells.append(" ".join(filter(None, parts)) + (" *" if cell and cell.stands_out else ""))
    return [*map(_shorten, heading(table, figure)), *cells]


def _shorten(line: str) -> str:
    return line if len(line) <= MAX_HEADING else f"{line[: MAX_HEADING - 1]}…"


def _fitting(names: Sequence[str], columns: Sequence[Sequence[str]]) -> int:
    """How many columns fit, at least one."""
    width, taken = _width(names), 0
    for column in columns:
        width += len(GAP) + _width(column)
        if width > WIDTH:
            break
        taken += 1
    return max(1, taken)


def _format(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for number, name in enumerate(names):
            cells = [name.ljust(_width(names)), *(column[number].ljust(_width(column)) for column in columns)]
            yield GAP.join(cells).rstrip()
            if number == 2:
                yield GAP.join("-" * _width(column) for column in (names, *columns))

    return "\n".join(lines())


def _width(column: Sequence[str]) -> int:
    return max(map(len, column))
