"""Results for people: one table, the same on a terminal and in a document."""

from __future__ import annotations

from typing import Any


def results_table(results: list[dict[str, Any]]) -> str:
    """A Markdown table of classification and retrieval results, in percent, with 95 % intervals."""
    lines = [
        "| task | pictures | choices | top-1 % | 95 % interval | top-5 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        names = ("classes", "top1", "top5") if "top1" in result else ("captions", "recall_at_1", "recall_at_5")
        choices, first, fifth = (result[name] for name in names)
        low, high = result["interval"]
        lines.append(
            f"| {result['task']} | {result['pictures']:,} | {choices:,} | {100 * first:.1f} "
            f"| {100 * low:.1f} to {100 * high:.1f} | {100 * fifth:.1f} |"
        )
    return "\n".join(lines)
