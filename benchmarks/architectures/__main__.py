"""`python -m benchmarks.architectures`: every configuration of open_clip, imported and held against its own outputs.

Each is built by open_clip with random weights, saved as a hub folder, imported, and both sides embed the same pictures
and texts in many scripts. Without --full every tower is cut to two layers, of its full width; --full is for all layers.
Rows are kept in the folder --results, and what is in it is not computed again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path

from benchmarks.architectures.process import run
from benchmarks.architectures.table import Results
from model.checkpoints.openclip import architecture_names
from model.requirements import how_to_install
from model.suggestions import did_you_mean

# One of each family whose members have the same layers in other numbers.
FAMILIES = (
    *("RN50", "ViT-B-32", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "EVA02-B-16", "convnext_base_w", "ViTamin-S"),
    *("MobileCLIP-S1", "MobileCLIP2-S3", "MobileCLIP-B", "PE-Core-T-16-384", "coca_ViT-B-32", "ViT-L-14-CLIPA"),
    *("roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "mt5-base-ViT-B-32", "nllb-clip-base", "ViT-L-14-worldwide"),
    *("swin_base_patch4_window7_224", "vit_medium_patch16_gap_256", "vit_relpos_medium_patch16_cls_224"),
)
_PRELOADED = ["open_clip", "timm", "transformers", "sentencepiece", "onnxscript", "model.checkpoints.importer"]


def main() -> None:
    """Walk the configurations, one at a time, each in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.architectures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="configurations of open_clip; all of them if left out")
    parser.add_argument("--full", action="store_true", help="all layers; without names, of one of each family")
    parser.add_argument("--again", action="store_true", help="compute rows that are there already")
    parser.add_argument("--results", type=Path, default=Path("architectures"), help="folder for rows and table")
    arguments = parser.parse_args()
    known = _all_names()
    for name in arguments.names:
        if name not in known:
            near = did_you_mean(name, known)
            parser.error(f"open_clip has no configuration {name!r}{near and f': {near}'}")
    results = Results(arguments.results)
    with tempfile.TemporaryDirectory() as cache:
        # Read when huggingface_hub is imported, in the processes to come.
        os.environ.update(HF_HUB_CACHE=cache, HF_HUB_OFFLINE="1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        names = arguments.names or (FAMILIES if arguments.full else known)
        for name in names:
            if arguments.again or not results.has(name, arguments.full):
                with tempfile.TemporaryDirectory() as folder:
                    process = context.Process(target=run, args=(name, arguments.full, folder, str(arguments.results)))
                    process.start()
                    process.join()
                    if process.exitcode:
                        results.add_crash(name, arguments.full, process.exitcode)
            print(results.line(name, arguments.full), flush=True)
    print(f"\n{results.write_table()}")


def _all_names() -> list[str]:
    names = architecture_names()
    if not names:
        raise SystemExit(how_to_install("open_clip", "convert-all"))
    return names


if __name__ == "__main__":
    main()
