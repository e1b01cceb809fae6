"""The curves of a run and of a calibration, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from training.report.diagnostics import Calibration
from training.report.svg import FAINT, LINE, STYLE, new_axes, to_svg

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
        points = [(each["step"], each[name]) for each in records if each.get(name) is not None]
        if len(points) > 1 or (points and name == "holdout"):
            drawn[title] = _curve(np.array(points, float), title, name)
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


def _curve(points: np.ndarray, title: str, name: str) -> str:
    if name == "holdout":
        points = points * [1, 100]
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
