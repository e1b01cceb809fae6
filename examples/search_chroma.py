"""Search the pictures of a folder by words, or by a picture, with Chroma: pip install chromadb

    python examples/search_chroma.py ~/Pictures "a dog on grass"

What is new or changed in the folder is embedded first: by the service at SIGHTWORD_URL, or by a model in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromadb

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


def update(collection: chromadb.Collection, model: Any, found: dict[str, float]) -> None:
    """Update the collection to the files that there are, each with the time of its last change."""
    stored = collection.get(include=["metadatas"])
    known = {path: metadata["changed"] for path, metadata in zip(stored["ids"], stored["metadatas"], strict=True)}
    for path in known.keys() - found.keys():
        collection.delete([path])
    for paths, vectors in embed(model, [path for path in found if known.get(path) != found[path]]):
        collection.upsert(paths, vectors, [{"changed": found[path]} for path in paths])


def main() -> None:
    """Read the command line, and print what is found, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("query", help="words, or the path of a picture")
    parser.add_argument("--database", default="pictures.chroma", help="where the vectors are kept")
    parser.add_argument("--top", type=int, default=5, help="how many are shown")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    about = model.info().model()
    database = chromadb.PersistentClient(arguments.database, chromadb.Settings(anonymized_telemetry=False))
    name = f"pictures-{about.digest[:12]}"  # vectors of two models cannot be compared
    collection = database.get_or_create_collection(
        name, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    files = [path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    update(collection, model, {str(path): path.stat().st_mtime for path in files})
    query = Path(arguments.query) if Path(arguments.query).is_file() else arguments.query
    answer = collection.query(model.embed(query), n_results=arguments.top)
    for path, distance in zip(answer["ids"][0], answer["distances"][0], strict=True):
        print(f"{1 - distance:.3f}  {path}")


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
