"""The quality of captions as a table for a terminal, and as captions.json and captions.html in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.data.caption_quality import LONGEST_BAR, CaptionQuality, SourceQuality
from training.report.curves import bars
from training.report.pages import stylesheet, templates
from training.report.tables import format_counts

TITLES = (
    "source", "pictures", "captions", "words, 5 to 95 %", "distinct words", "type-token", "repeated %", "file names %",
    "other language %", "similarity, 5 to 95 %", "kept",
)  # fmt: skip


def caption_rows(quality: CaptionQuality) -> list[list[str]]:
    """The cells of each source, in the order of TITLES."""
    return [_cells(each) for each in quality.sources]


def _cells(each: SourceQuality) -> list[str]:
    words, similar = each.words, each.similarity
    return [
        each.source,
        f"{each.pictures:,}",
        f"{each.captions:,}",
        f"{words['mean']:.1f}, {words['p5']:.0f} to {words['p95']:.0f}",
        f"{each.distinct_words:,}",
        f"{each.type_token:.2f}",
        *(f"{100 * share:.1f}" for share in (each.repeated, each.file_names, each.other_languages)),
        f"{similar['mean']:.3f}, {similar['p5']:.3f} to {similar['p95']:.3f}" if similar else "not asked",
        f"{each.kept:,}",
    ]


def caption_table(quality: CaptionQuality) -> str:
    """A Markdown table, and what the filters would leave out."""
    rows = [TITLES, ["---"] * len(TITLES), *caption_rows(quality)]
    return "\n".join([*(f"| {' | '.join(row)} |" for row in rows), "", filter_sentence(quality)])


def filter_sentence(quality: CaptionQuality) -> str:
    """What the filters of the configuration leave out."""
    if not quality.left_out:
        return "The filters of this configuration leave out no caption."
    return (
        f"The filters of this configuration leave out: {format_counts(quality.left_out)}; {quality.dropped:,} pictures "
        "have nothing else."
    )


def write_caption_report(quality: CaptionQuality, folder: Path) -> Path:
    """Write captions.json and captions.html; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.json").write_text(json.dumps(quality.to_record(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    plots = []
    for each in quality.sources:
        drawn = {
            "words of a caption": bars(
                each.lengths, range(LONGEST_BAR + 2), "words", f"Words of a caption, {each.source}: "
                f"{each.words['mean']:.1f} on average"
            )
        }  # fmt: skip
        if each.similarity:
            title = f"Similarity to the picture, {each.source}: {each.similarity['mean']:.3f} on average"
            edges = np.linspace(-1, 1, len(each.similarities) + 1).tolist()
            drawn["similarity to the picture"] = bars(each.similarities, edges, "cosine", title)
        plots.append((each, drawn))
    page = (
        templates()
        .get_template("captions.html.j2")
        .render(
            style=stylesheet(), titles=TITLES, rows=caption_rows(quality), plots=plots, quality=quality,
            filters=filter_sentence(quality),
        )
    )  # fmt: skip
    file = folder / "captions.html"
    file.write_text(page, "utf-8")
    return file
