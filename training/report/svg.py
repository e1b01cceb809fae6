"""Figures as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, LINE, FAINT, OTHER = "#010203", "#040506", "#070809", "#0a0b0d"  # stand for colours of the page
COLOURS = {INK: "currentColor", LINE: "var(--accent)", FAINT: "var(--faint)", OTHER: "var(--other)"}
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "sightword", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": FAINT,
    "grid.linewidth": 0.5, "lines.linewidth": 1.8, "text.parse_math": False,
}  # fmt: skip


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of that many inches with one system of axes, of the page's own background."""
    figure = Figure((width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def to_svg(figure: Figure, description: str) -> str:
    """The figure as inline SVG: no XML head, no unused ids, no sizes, `description` for screen readers."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r'^<svg[^>]*?(viewBox="[^"]+")[^>]*>', rf'<svg \1 role="img" aria-label="{description}">', text)
    text = text.replace("xlink:href", "href")
    for stand_in, colour in COLOURS.items():
        text = text.replace(stand_in, colour)
    return text
