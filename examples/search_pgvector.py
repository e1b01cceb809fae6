"""Search the pictures of a folder by words, or by a picture, with PostgreSQL: pip install "psycopg[binary]" pgvector

    python examples/search_pgvector.py ~/Pictures "a dog on grass"

What is new or changed in the folder is embedded first: by the service at SIGHTWORD_URL, or by a model in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg.sql import SQL, Identifier

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


def update(database: psycopg.Connection[Any], table: Identifier, model: Any, found: dict[str, float]) -> None:
    """Update the table to the files that there are, each with the time of its last change."""
    known = dict(database.execute(SQL("SELECT path, changed FROM {}").format(table)).fetchall())
    gone = {path for path, changed in known.items() if found.get(path) != changed}
    database.execute(SQL("DELETE FROM {} WHERE path = ANY(%s)").format(table), [list(gone)])
    insert = SQL("INSERT INTO {} VALUES (%s, %s, %s)").format(table)
    for paths, vectors in embed(model, [path for path in found if path not in known or path in gone]):
        rows = zip(paths, map(found.get, paths), vectors, strict=True)
        database.cursor().executemany(insert, rows)


def main() -> None:
    """Read the command line, and print what is found, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("query", help="words, or the path of a picture")
    parser.add_argument("--database", default=os.environ.get("DATABASE_URL", ""), help="as postgresql://user@host/name")
    parser.add_argument("--top", type=int, default=5, help="how many are shown")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    about = model.info().model()
    database = psycopg.connect(arguments.database, autocommit=True)
    database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(database)
    table = Identifier(f"pictures_{about.digest[:12]}")  # vectors of two models cannot be compared
    columns = SQL("(path text PRIMARY KEY, changed float8, vector vector({}))").format(about.dimensions)
    database.execute(SQL("CREATE TABLE IF NOT EXISTS {} {}").format(table, columns))
    files = [path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    update(database, table, model, {str(path): path.stat().st_mtime for path in files})
    query = Path(arguments.query) if Path(arguments.query).is_file() else arguments.query
    nearest = SQL("SELECT path, 1 - (vector <=> %s) FROM {} ORDER BY vector <=> %s LIMIT %s").format(table)
    vector = model.embed(query)[0]
    for path, cosine in database.execute(nearest, [vector, vector, arguments.top]):
        print(f"{cosine:.3f}  {path}")


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
