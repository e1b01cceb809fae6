"""`python -m benchmarks.transformers_classes`: every dual encoder of transformers, held against its own outputs.

Each is built by transformers with random weights, saved with its processor and tokenizer, and imported; both sides then
embed the same pictures and texts in many scripts. By default with two layers a tower; --full is for the sizes that its
configuration has by default, which are those of the published models, but for vocabularies that are on a hub.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.transformers_classes.classes import REFUSED, dual_encoders, refusal
from benchmarks.transformers_classes.compare import compare
from benchmarks.transformers_classes.models import SPECS
from benchmarks.transformers_classes.table import line, write_table


def main() -> None:
    """Walk the classes, one at a time, and write rows and table into a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transformers_classes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="classes of transformers; all of them if left out")
    parser.add_argument("--full", action="store_true", help="all layers, in full width")
    parser.add_argument("--results", type=Path, default=Path("transformers_classes"), help="folder for rows and table")
    arguments = parser.parse_args()
    if unknown := dual_encoders() - set(SPECS) - set(REFUSED):
        parser.error(f"of the installed transformers nothing is known of {', '.join(sorted(unknown))}")
    arguments.results.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or sorted([*SPECS, *([] if arguments.full else REFUSED)]):
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder)
            row = refusal(name, made) if name in REFUSED else compare(name, arguments.full, made)
        file = arguments.results / f"{name}{'.full' if row['layers'] == 'all' else ''}.json"
        file.write_text(json.dumps(row, indent=1) + "\n", "utf-8")
        print(line(row), flush=True)
    print(write_table(arguments.results))


if __name__ == "__main__":
    main()
