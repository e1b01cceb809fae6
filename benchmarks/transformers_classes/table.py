"""The table of the walk, for the documentation."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

_HEAD = "| class | way | parameters | dimensions | pixels | tokens | import, s | largest difference | smallest cosine |"
_RULE = "| --- | --- | --: | --: | --: | --: | --: | --: | --: |"
_INTRODUCTION = """# The dual encoders of transformers {version}

Written by `python -m benchmarks.transformers_classes`.

Every class with `get_image_features` and `get_text_features`, and those that carry such a model under a head. Each is
built by transformers with random weights, saved with its processor and tokenizer, and imported. The bundle, run by
onnxruntime, and the original with its processor then embed the same photographs and the same texts, in Latin, Cyrillic,
Japanese and Arabic script. A class is exact where no component of any vector differs by more than 1e-4, and no cosine
is below 0.99999. `own` is imported by Sightword's own networks and can be trained further; `transformers` is built by
transformers, from the folder alone. `padded` are text towers that see padding. TIPS has no processor without
torchvision: it gets the pixels of the bundle. Seconds are of a machine that did other work meanwhile."""


def line(row: dict[str, Any]) -> str:
    """A row for the terminal."""
    if "way" not in row:
        return f"{row['name']}: {row['outcome']}: {row['reason']}"
    return (
        f"{row['name']}: {row['outcome']} ({row['way']}), {row['parameters']:,} parameters, {row['import_s']} s, "
        f"pictures {row['picture']:.1e}, texts {row['text']:.1e}, cosine {row['cosine']:.7f}"
    )


def write_table(folder: Path) -> Path:
    """Write transformers.md beside the rows. Returns it."""
    rows = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    parts = [_INTRODUCTION.format(version=version("transformers"))]
    for title, layers in (("Two layers a tower", "2"), ("Full size", "all")):
        made = [row for row in rows if row["layers"] == layers and "way" in row]
        parts += ["", f"## {title}", "", _HEAD, _RULE, *map(_cells, made)] if made else []
    refused = [row for row in rows if "way" not in row]
    parts += ["", "## Refused", "", *(f"- **{row['name']}**: {row['reason']}" for row in refused)] if refused else []
    file = folder / "transformers.md"
    file.write_text("\n".join(parts) + "\n", "utf-8")
    return file


def _cells(row: dict[str, Any]) -> str:
    name = row["name"] if row["outcome"] == "exact" else f"**{row['name']}** ({row['outcome']})"
    tokens = f"{row['context']}{', padded' if row['padded'] else ''}"
    cells = [name, row["way"], f"{row['parameters']:,}", row["dimensions"], row["image_size"], tokens, row["import_s"]]
    cells += [f"{max(row['picture'], row['text']):.1e}", f"{row['cosine']:.7f}"]
    return f"| {' | '.join(str(cell) for cell in cells)} |"
