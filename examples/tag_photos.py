"""Tag a photo library with labels of your own: as XMP sidecars, which digiKam and others read, or as CSV

    python examples/tag_photos.py ~/Pictures "beach, mountains, dog, birthday cake, receipt"
    python examples/tag_photos.py ~/Pictures labels.txt --csv tags.csv

The sidecar of photo.jpg is photo.jpg.xmp; with --stem photo.xmp, which Lightroom reads beside a raw file of that name.
A sidecar that another program wrote or changed is left as it is. The scores are from the service at SIGHTWORD_URL;
without it, from a model in this process.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import sightword

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MARK = 'x:xmptk="Sightword"'  # other programs that write to the file put their own name there
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" {MARK}>
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject><rdf:Bag>%s</rdf:Bag></dc:subject>
  </rdf:Description>
 </rdf:RDF></x:xmpmeta><?xpacket end="w"?>
"""


def write_sidecar(path: Path, tags: list[str]) -> None:
    """Write it, unless there is one that is not ours."""
    if path.exists() and MARK not in path.read_text("utf-8", "replace"):
        print(f"{path} is of another program, and left as it is", file=sys.stderr)
    else:
        path.write_text(XMP % "".join(f"<rdf:li>{escape(tag)}</rdf:li>" for tag in tags), "utf-8")


def main() -> None:
    """Read the command line, and tag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the pictures, also in the folders below")
    parser.add_argument("labels", help="separated by commas, or a file with one a line")
    parser.add_argument("--threshold", type=float, default=0.2, help="the least share of a label among all (0.2)")
    parser.add_argument("--stem", action="store_true", help="name sidecars photo.xmp, not photo.jpg.xmp")
    parser.add_argument("--csv", type=Path, help="write path, tag and score there, and no sidecars")
    arguments = parser.parse_args()

    file = Path(arguments.labels)
    parts = re.split(r"[\x00-\x1f]", file.read_text("utf-8")) if file.is_file() else arguments.labels.split(",")
    labels = [label for part in parts if (label := part.strip())]
    paths = [path for path in sorted(arguments.folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    model = sightword.Client() if os.environ.get("SIGHTWORD_URL") else sightword.load()
    results = model.classify(paths, labels, threshold=arguments.threshold, on_error="item", progress=True)
    rows, sidecars = [], {}
    for path, result in zip(paths, results, strict=True):
        tags = {each.label: f"{each.score:.3f}" for each in result.predictions}
        rows += [(path, tag, score) for tag, score in tags.items()]
        print(f"{path}: {result.error.message if result.error else ', '.join(tags)}")
        sidecar = path.with_suffix(".xmp") if arguments.stem else path.with_name(path.name + ".xmp")
        sidecars.setdefault(sidecar, {}).update(tags)
    if arguments.csv:
        with arguments.csv.open("w", encoding="utf-8", newline="") as output:
            csv.writer(output).writerows([("path", "tag", "score"), *rows])
        return
    for sidecar, tags in sidecars.items():
        if tags or sidecar.exists():
            write_sidecar(sidecar, list(tags))


if __name__ == "__main__":
    try:
        main()
    except sightword.SightwordError as error:
        sys.exit(f"error: {error}")
