"""Search the pictures of a folder by words, or by a picture, with LanceDB: pip install lancedb

    python examples/search_lancedb.py ~/Pictures "a dog on grass"

What is new or changed in the folder is embedded first: by the service at SIGHTWORD_URL, or by a model in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

import sightword

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def embed(model: Any, paths: list[str]) -> Iterator[tuple[list[str], Any]]:
    """Paths and their vectors, 256 at a time; a file that is no picture is named, and left out."""
    for start in range(0, len(paths), 256):
        part = paths[start : start + 256]
        result = model.embed([Path(path) for path in part], on_error="item")
        for index, error in result.errors.items():
            print(f"left out {part[index]}: {error.message}", file=sys.stderr)
        good = [index for index in range(len(part)) if index not in result.errors]
        if good:
            yield [part[index] for index in good], result.vectors[good]


def update(table: Any, model: Any, found: dict[str, float]) -> None:
    """Update the table to the files that there are, each with the time of its last change."""
    known = {row["path"]: row["changed"] for row in table.search().select(["path", "changed"]).limit(None).to_list()}
    for path in known.keys() - found.keys():
        table.delete("path = '{}'".format(path.replace("'", "''")))
    for paths, vectors in embed(model, [path for path in found if known.get(path) != found[path]]):
        rows = [
            {"path": path, "changed": found[path], "vector": each} for path, each in zip(paths, vectors, strict=True)
        ]
        table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(rows)


def main() -> None:
    """Read the command line, and print what is found, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("query", help="words, or the path of a picture")
    parser.add_argument("--database", default="pictures.lancedb", help="where the vectors are kept")
    parser.add_argument("--top", type=int, default=5, help="how many are shown")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    about = model.info().model()
    vector = pa.list_(pa.float32(), about.dimensions)
    schema = pa.schema([("path", pa.string()), ("changed", pa.float64()), ("vector", vector)])
    name = f"pictures-{about.digest[:12]}"  # vectors of two models cannot be compared
    table = lancedb.connect(arguments.database).create_table(name, schema=schema, exist_ok=True)
    files = [path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    update(table, model, {str(path): path.stat().st_mtime for path in files})
    query = Path(arguments.query) if Path(arguments.query).is_file() else arguments.query
    for row in table.search(model.embed(query)[0]).distance_type("cosine").limit(arguments.top).to_list():
        print(f"{1 - row['_distance']:.3f}  {row['path']}")


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
