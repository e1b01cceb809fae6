"""Find pictures that show the same: copies in another size or format, slightly cropped, or with other colours.

    python examples/find_duplicates.py ~/Pictures
    python examples/find_duplicates.py ~/Pictures --redundant | xargs -d '\\n' --no-run-if-empty mv -t duplicates/

Nothing is deleted. Of pictures that are alike, the largest file comes first, and is not redundant. The vectors are from
the service at SIGHTWORD_URL; without it, from a model in this process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import sightword

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def groups(vectors: Any, threshold: float) -> Iterator[list[tuple[int, float]]]:
    """Lists of (index, cosine to the first of the list), of vectors [pictures, dimensions] of unit length."""
    left = np.ones(len(vectors), bool)
    for index in range(len(vectors)):
        if not left[index]:
            continue
        left[index] = False
        cosines = vectors @ vectors[index]
        alike = np.flatnonzero(left & (cosines >= threshold))
        left[alike] = False
        if len(alike):
            yield [(index, 1.0), *((int(each), float(cosines[each])) for each in alike)]


def main() -> None:
    """Read the command line, and print what is alike."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("--threshold", type=float, default=0.97, help="the least cosine; 0.97 is a good start")
    parser.add_argument("--redundant", action="store_true", help="print only the paths of all but the first of each")
    arguments = parser.parse_args()

    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    paths = [path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    paths.sort(key=lambda path: (-path.stat().st_size, path))
    result = model.embed(paths, on_error="item", progress=True)
    for index, error in result.errors.items():
        print(f"left out {paths[index]}: {error.message}", file=sys.stderr)
    good = [index for index in range(len(paths)) if index not in result.errors]
    found = list(groups(result.vectors[good], arguments.threshold))
    for group in found:
        for place, (index, cosine) in enumerate(group):
            path = paths[good[index]]
            if not arguments.redundant:
                print(f"{f'  {cosine:.3f}' if place else 'alike: '}  {path}  {path.stat().st_size / 1000:,.0f} kB")
            elif place:
                print(path)
    redundant = sum(len(group) - 1 for group in found)
    print(f"{len(good)} pictures, of which {redundant} are redundant", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
