"""Search the pictures of a folder by words, or by a picture, with Qdrant: pip install qdrant-client

    python examples/search_qdrant.py ~/Pictures "a dog on grass"

What is new or changed in the folder is embedded first: by the service at SIGHTWORD_URL, or by a model in this process.
The database is a folder, or the Qdrant at QDRANT_URL.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from qdrant_client import QdrantClient
from qdrant_client.models import Batch, Distance, VectorParams

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


def update(database: QdrantClient, name: str, model: Any, found: dict[str, float]) -> None:
    """Update the collection to the files that there are, each with the time of its last change."""
    records = database.scroll(name, limit=1_000_000)[0]
    known = {record.payload["path"]: record.payload["changed"] for record in records}
    if gone := [record.id for record in records if record.payload["path"] not in found]:
        database.delete(name, gone)
    for paths, vectors in embed(model, [path for path in found if known.get(path) != found[path]]):
        ids = [str(uuid5(NAMESPACE_URL, path)) for path in paths]
        payloads = [{"path": path, "changed": found[path]} for path in paths]
        database.upsert(name, Batch(ids=ids, vectors=vectors.tolist(), payloads=payloads))


def main() -> None:
    """Read the command line, and print what is found, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("query", help="words, or the path of a picture")
    parser.add_argument("--database", default="pictures.qdrant", help="where the vectors are kept")
    parser.add_argument("--top", type=int, default=5, help="how many are shown")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    about = model.info().model()
    where = {"url": os.environ["QDRANT_URL"]} if "QDRANT_URL" in os.environ else {"path": arguments.database}
    database = QdrantClient(**where)
    name = f"pictures-{about.digest[:12]}"  # vectors of two models cannot be compared
    if not database.collection_exists(name):
        database.create_collection(name, VectorParams(size=about.dimensions, distance=Distance.COSINE))
    files = [path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    update(database, name, model, {str(path): path.stat().st_mtime for path in files})
    query = Path(arguments.query) if Path(arguments.query).is_file() else arguments.query
    for point in database.query_points(name, model.embed(query)[0], limit=arguments.top).points:
        print(f"{point.score:.3f}  {point.payload['path']}")
    database.close()


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
