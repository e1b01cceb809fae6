"""`python -m benchmarks.variants`: every variant of ViT-B/32, of the bundled checkpoint, and of others' networks.

All but the bundled checkpoint have random weights: their speeds are those of published ones, their cosines show the
arithmetic only.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from model.requirements import needs

with needs("convert"):
    import typer

    from benchmarks.library_models import FAMILIES, library_bundle
    from model.commands.common import one_of

if TYPE_CHECKING:
    from model.bundle import Bundle
    from model.variant_report import TowerReport, VariantReport

MODELS = ("ViT-B-32", "bundled", *FAMILIES)
DEFAULT_MODELS = MODELS[:2]
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


def random_bundle(preset: str, folder: Path) -> Bundle:
    """A bundle of that architecture, with the weights that training begins with."""
    import torch

    from model.config import Preprocessing, load_preset
    from model.export.bundle import export_bundle
    from model.network import build_network
    from model.tokenizers.clip import Tokenizer

    torch.manual_seed(0)
    network = build_network(load_preset(preset))
    preprocessing = Preprocessing(size=network.config.image.image_size)
    return export_bundle(network, folder, tokenizer=Tokenizer.clip(), preprocessing=preprocessing)


@app.command()
def main(
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"These, of {', '.join(MODELS)}; the first two if left out.", callback=one_of(*MODELS)),
    ] = None,
) -> None:
    """Make each variant in a temporary folder and print a line of its report: some minutes a model.

    Families of open_clip need the extra convert-all.

    Example:

        python -m benchmarks.variants --model bundled
    """
    with needs("convert"):
        from model.bundle import Bundle, bundled
        from model.variants.make_variant import make_variant
        from model.variants.options import VariantOptions

    variants = (
        VariantOptions("int8"),
        VariantOptions("fp16"),
        VariantOptions("bf16"),
        VariantOptions("fp32", fused=True),
    )
    print("| model | variant | weights MB | pictures | texts | same label | speed, pictures / texts |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with TemporaryDirectory(prefix="sightword-") as name:
        for which in model or DEFAULT_MODELS:
            source = Bundle.load(bundled()) if which == "bundled" else _make(which, Path(name) / "source")
            print(f"| {source.id} | {source.precision} | {_megabytes(source)} | | | | |", flush=True)
            for wanted in variants:
                variant = make_variant(source, Path(name) / f"{source.id}{wanted.suffix}", wanted, _say)
                report = variant.manifest.variant
                assert report is not None
                print(f"| {source.id} | {wanted.suffix[1:]} | {_megabytes(variant)} | {_row(report)} |", flush=True)
                shutil.rmtree(variant.path)
            shutil.rmtree(Path(name) / "source", ignore_errors=True)
    print(f"\n{report.machine}, {report.threads} threads, onnxruntime {report.onnxruntime}, {report.created}")


def _make(model: str, folder: Path) -> Bundle:
    return library_bundle(model, folder) if model in FAMILIES else random_bundle(model, folder)


def _say(step: str) -> None:
    print(step, file=sys.stderr)


def _megabytes(bundle: Bundle) -> str:
    from model.manifest import WEIGHTS

    return f"{(bundle.path / WEIGHTS).stat().st_size / 1e6:.1f}"


def _row(report: VariantReport) -> str:
    speed = f"{report.image.speed_ratio:.2f} / {report.text.speed_ratio:.2f}"
    return " | ".join([_cosines(report.image), _cosines(report.text), f"{report.top1_agreement:.0%}", speed])


def _cosines(tower: TowerReport) -> str:
    return f"{tower.min_cosine:.4f} / {tower.mean_cosine:.4f}"


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.variants")
