"""The curves of a run and of a calibration, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from training.report.diagnostics import Calibration
from training.report.svg import FAINT, LINE, OTHER, STYLE, new_axes, to_svg

POINTS = 300  # of a curve; of longer runs the mean of neighbours
PANELS = {
    "loss": "loss",
    "holdout": "held-out top-1, %",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "logit_scale": "logit scale",
    "samples_per_s": "samples a second",
}


def curves(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Title and SVG of each figure that the lines of metrics.jsonl hold, by step."""
    drawn = {}
    for name, title in PANELS.items():
        points = _points(records, name)
        if len(points) > 1 or (len(points) and name == "holdout"):
            drawn[title] = _curve(points, title, name)
    return drawn


def curves_of_two(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same with both runs in each figure, the second dashed; figures that neither has are left out."""
    drawn = {}
    for name, title in PANELS.items():
        points = [_points(records, name) for records in (first, second)]
        if any(len(each) > 1 or (len(each) and name == "holdout") for each in points):
            drawn[title] = _two_curves(points, title, name)
    return drawn


def reliability_diagram(calibration: Calibration) -> str:
    """The reliability diagram: accuracy by score; a calibrated model is on the diagonal."""
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(3.4, 3.2)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        axes.plot(
            [each.score for each in calibration.bins],
            [each.accuracy for each in calibration.bins],
            color=LINE,
            marker="o",
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="score", ylabel="share that is right")
        return to_svg(figure, f"Calibration: expected calibration error {calibration.error:.3f}")


def bars(counts: Sequence[int], edges: Sequence[float], label: str, description: str) -> str:
    """A histogram: `counts` [bins] between `edges` [bins + 1], by shares of all."""
    heights = np.array(counts, float) / max(1, sum(counts)) * 100
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(3.6, 1.9)
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color=LINE, linewidth=0)
        axes.set(xlabel=label, ylabel="%", xlim=(edges[0], edges[-1]))
        return to_svg(figure, description)


def _points(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """[points, 2]: steps and values, of the held-out score in percent."""
    points = [(each["step"], each[name]) for each in records if each.get(name) is not None]
    return np.array(points, float).reshape(-1, 2) * [1, 100 if name == "holdout" else 1]


def _two_curves(points: Sequence[np.ndarray], title: str, name: str) -> str:
    told = []
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(4.2, 2.3)
        for each, colour, line in zip(points, (LINE, OTHER), ("-", "--"), strict=True):
            if not len(each):
                told.append("no values")
                continue
            steps, values = _downsample(each).T
            as_it_is = name in ("holdout", "learning_rate")
            marker = "o" if name == "holdout" else ""
            shown = values if as_it_is else _smooth(values)
            axes.plot(steps, shown, color=colour, linestyle=line, marker=marker, markersize=4)
            told.append(f"from {each[0, 1]:.4g} to {each[-1, 1]:.4g}")
        axes.set_xlabel("step")
        return to_svg(figure, f"{title} by step: the first run {told[0]}, the other {told[1]}")


def _curve(points: np.ndarray, title: str, name: str) -> str:
    with mpl.rc_context(STYLE):
        figure, axes = new_axes(4.2, 2.3)
        steps, values = _downsample(points).T
        if name == "holdout":
            axes.plot(steps, values, color=LINE, marker="o", markersize=4)
        elif name == "learning_rate":
            axes.plot(steps, values, color=LINE)
        else:
            axes.plot(steps, values, color=FAINT, linewidth=1)
            axes.plot(steps, _smooth(values), color=LINE)
        axes.set_xlabel("step")
        return to_svg(figure, f"{title} by step, from {points[0, 1]:.4g} to {points[-1, 1]:.4g}")


def _downsample(points: np.ndarray) -> np.ndarray:
    """At most POINTS rows, each the mean of its neighbours."""
    parts = np.array_split(points, min(POINTS, len(points)))
    return np.array([part.mean(axis=0) for part in parts])


def _smooth(values: np.ndarray) -> np.ndarray:
    """The mean of a twentieth of the curve around each point."""
    reach = max(1, len(values) // 40)
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, np.ones(2 * reach + 1) / (2 * reach + 1), mode="valid")
