"""Two panels of bars as SVG: pictures a second beside others, and shares of the limit."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmarks.speed import ratios
from benchmarks.speed.record import Record, Spread

Bars = Sequence[tuple[str, Spread, bool]]  # name, value, whether it is ours
WIDTH, LEFT, RIGHT, ROW = 720, 220, 90, 22
OURS, OTHERS = "#2f6fb3", "#b8b8b8"
STYLE = (
    "text{font:12px sans-serif;fill:#333}.t{font-size:14px;font-weight:bold}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}line{stroke:#ddd}}"
)


def plot(record: Record) -> str:
    """The SVG; whiskers reach from the smallest to the largest round."""
    panels = {
        "Pictures a second over HTTP, ViT-B/32, 32 clients": _beside(record),
        "Share of the limit, pictures of 640x480": _shares(record),
    }
    parts: list[str] = []
    top = 0
    for title, bars in panels.items():
        if bars:
            parts += _panel(title, bars, top)
            top += (len(bars) + 2) * ROW
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _beside(record: Record) -> Bars:
    found = {model: record.spread(model, "beside/pictures/32") for model in record.models()}
    bars = [(name, spread, "precision" not in record.facts.get(name, {})) for name, spread in found.items() if spread]
    return sorted(bars, key=lambda bar: bar[1].median)


def _shares(record: Record) -> Bars:
    rungs = {"D": "in process", "E": "HTTP, file", "F": "HTTP, JSON"}
    bars: list[tuple[str, Spread, bool]] = []
    for model in record.models():
        for rung, name in rungs.items():
            if spread := ratios.share(record, model, "640x480", rung):
                bars.append((f"{model}, {name}", spread, True))
    return bars


def _panel(title: str, bars: Bars, top: int) -> list[str]:
    scale = (WIDTH - LEFT - RIGHT) / max(spread.high for _, spread, _ in bars)
    lines = [f'<text class="t" x="8" y="{top + ROW}">{escape(title)}</text>']
    for number, (name, spread, ours) in enumerate(bars, start=1):
        y = top + number * ROW + 8
        width, low, high = (scale * value for value in (spread.median, spread.low, spread.high))
        lines += [
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="16" fill="{OURS if ours else OTHERS}"/>',
            f'<line x1="{LEFT + low:.1f}" x2="{LEFT + high:.1f}" y1="{y + 8}" y2="{y + 8}" stroke="#333"/>',
            f'<text x="{LEFT + high + 6:.1f}" y="{y + 12}">{ratios.format_number(spread.median)}</text>',
        ]
    return lines
