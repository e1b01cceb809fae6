"""Rows of the walk, kept as JSON, and the table of them for docs/architectures.md."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import machine

_HEAD = "| configuration | way | dimensions | pixels | tokens | import, s | largest difference | smallest cosine |"
_RULE = "| --- | --- | --: | --: | --: | --: | --: | --: |"


class Results:
    """The rows in a folder, by configuration and number of layers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str, full: bool) -> bool:
        """Whether a row is there."""
        return self._file(name, full).exists()

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        content = {**row, "date": datetime.now(UTC).date().isoformat()}
        self._file(row["name"], row["layers"] == "all").write_text(json.dumps(content, indent=1), "utf-8")

    def add_crash(self, name: str, full: bool, code: int | None) -> None:
        """Keep that a process ended without a row."""
        reason = f"its process ended with {code}"
        self.add({"name": name, "layers": "all" if full else "2", "outcome": "failed", "reason": reason})

    def line(self, name: str, full: bool) -> str:
        """A row for the terminal."""
        row = json.loads(self._file(name, full).read_text("utf-8"))
        if row["outcome"] != "exact" and "way" not in row:
            return f"{name}: {row['outcome']}: {row['reason']}"
        padded = ", padded" if row["padded"] else ""
        return (
            f"{name}: {row['outcome']} ({row['way']}{padded}), {row['dimensions']} dimensions, {row['import_s']} s, "
            f"pictures {row['picture']:.1e}, texts {row['text']:.1e}, cosine {row['cosine']:.7f}"
        )

    def write_table(self) -> Path:
        """Write architectures.json and architectures.md beside the rows. Returns the latter."""
        rows = [json.loads(file.read_text("utf-8")) for file in sorted((self._folder / "rows").glob("*.json"))]
        rows.sort(key=lambda row: row["name"].lower())
        cut = [row for row in rows if row["layers"] == "2"]
        full = [row for row in rows if row["layers"] == "all"]
        described = {"machine": machine(), "rows": rows}
        (self._folder / "architectures.json").write_text(json.dumps(described, indent=1) + "\n", "utf-8")
        parts = [_introduction(rows), *_section("Cut to two layers", cut), *_section("All layers", full)]
        file = self._folder / "architectures.md"
        file.write_text("\n".join(parts) + "\n", "utf-8")
        return file

    def _file(self, name: str, full: bool) -> Path:
        file = self._folder / "rows" / f"{name}{'.full' if full else ''}.json"
        file.parent.mkdir(exist_ok=True)
        return file


def _introduction(rows: list[dict[str, Any]]) -> str:
    where = machine()
    dates = sorted({row["date"] for row in rows})
    return f"""# The configurations of open_clip

Written by `python -m benchmarks.architectures`, {" to ".join(dict.fromkeys([dates[0], dates[-1]]))}, on \
{where["processor"]}, {where["cores"]} cores, {where["memory_gib"]} GiB.

Each configuration of open_clip 3.3.0 is built by open_clip with random weights, saved as a hub folder, and imported.
The bundle, run by onnxruntime, and open_clip's own model, loaded from the same folder by open_clip, then embed the same
pictures and the same texts, in Latin, Cyrillic, Chinese, Japanese, Arabic and Korean script, each with its own
tokenizer. A configuration is exact where no component of any vector differs by more than 1e-4, and no cosine is below
0.99999. Tokenizers whose vocabulary is on a hub are small ones of the same kind, trained here.

Seconds of an import are of a machine that did other work meanwhile.

`own` is imported by Sightword's own networks and can be trained further; `open_clip` is built by open_clip. `padded`
are text towers that see padding: each text is as long as the context there."""


def _section(title: str, rows: list[dict[str, Any]]) -> list[str]:
    counts = Counter(row["outcome"] for row in rows)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    lines = ["", f"## {title}: {len(rows)}, of which {counted}" if rows else f"## {title}: none", ""]
    made = [row for row in rows if "way" in row]
    lines += [_HEAD, _RULE, *(_line(row) for row in made)] if made else []
    refused = [row for row in rows if "way" not in row]
    if refused:
        lines += ["", *(f"- **{row['name']}** {row['outcome']}: {row['reason']}" for row in refused)]
    return lines


def _line(row: dict[str, Any]) -> str:
    name = row["name"] if row["outcome"] == "exact" else f"**{row['name']}** ({row['outcome']})"
    cells = [name, row["way"], row["dimensions"], row["image_size"]]
    cells += [f"{row['context']}{', padded' if row['padded'] else ''}", row["import_s"]]
    cells += [f"{max(row['picture'], row['text']):.1e}", f"{row['cosine']:.7f}"]
    return f"| {' | '.join(str(cell) for cell in cells)} |"
