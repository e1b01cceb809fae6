"""Search the pictures of a folder by words, or by a picture, with USearch: pip install usearch

    python examples/search_usearch.py ~/Pictures "a dog on grass"

What is new or changed in the folder is embedded first: by the service at SIGHTWORD_URL, or by a model in this process.
The index is a file, and one beside it has the paths.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

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


def update(index: Any, known: dict[str, list[Any]], model: Any, found: dict[str, float]) -> None:
    """Update the index to the files that there are; `known` has the key and the last change of each that it holds."""
    for path in [path for path, (_, changed) in known.items() if found.get(path) != changed]:
        index.remove(known.pop(path)[0])
    for paths, vectors in embed(model, [path for path in found if path not in known]):
        keys = max((key for key, _ in known.values()), default=-1) + 1 + np.arange(len(paths))
        index.add(keys, vectors)
        known.update({path: [int(key), found[path]] for key, path in zip(keys, paths, strict=True)})


def main() -> None:
    """Read the command line, and print what is found, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("query", help="words, or the path of a picture")
    parser.add_argument("--database", default="pictures.usearch", help="where the vectors are kept")
    parser.add_argument("--top", type=int, default=5, help="how many are shown")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    about = model.info().model()
    from usearch.index import Index  # USearch 2.26 imported before onnxruntime crashes Python, so not above

    file = Path(arguments.database) / f"{about.digest[:12]}.usearch"  # vectors of two models cannot be compared
    index = Index.restore(str(file)) if file.exists() else Index(ndim=about.dimensions, metric="cos", dtype="f32")
    known = json.loads(file.with_suffix(".json").read_text()) if file.exists() else {}
    files = [path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    update(index, known, model, {str(path): path.stat().st_mtime for path in files})
    query = Path(arguments.query) if Path(arguments.query).is_file() else arguments.query
    file.parent.mkdir(exist_ok=True)
    index.save(str(file))
    file.with_suffix(".json").write_text(json.dumps(known))
    paths = {key: path for path, (key, _) in known.items()}
    for match in index.search(model.embed(query)[0], arguments.top):
        print(f"{1 - match.distance:.3f}  {paths[int(match.key)]}")


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
