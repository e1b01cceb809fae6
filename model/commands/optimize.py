"""Make variants of a bundle, in other precisions or with fused graphs, each with its own measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from model.commands.common import NamedBundle, announced, fail, load, one_of
from model.requirements import needs

PRECISIONS = ("fp32", "fp16", "bf16", "int8")  # that a variant may compute in, or keep its weights in


def optimize(
    bundle: NamedBundle,
    precision: Annotated[
        str,
        typer.Option(
            help="int8: fastest on CPUs. fp16: for GPUs. bf16: weights in half the space, computed in fp32. "
            "fp32: only with --fused.",
            metavar="|".join(PRECISIONS),
            callback=one_of(*PRECISIONS),
        ),
    ] = "fp32",
    fused: Annotated[
        bool, typer.Option("--fused", help="Attention, norms and activations as one operator each: for GPUs.")
    ] = False,
    to: Annotated[
        Path | None, typer.Option(help="Folder for the variant, new or empty; beside the bundle if left out.")
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Measure on the pictures in this folder, 300 at most.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Id of the variant; that of the bundle and the precision if left out.")
    ] = None,
) -> None:
    """Make a variant of a bundle, and measure how close it is to it and how much faster.

    Examples:

        python -m model optimize vit-b-32 --precision int8

        python -m model optimize vit-b-32 --precision fp16 --fused --to vit-b-32-gpu --pictures my-pictures
    """
    loaded = load(bundle)
    with needs("convert"):
        from model.checkpoints.checkpoint import CheckpointError
        from model.manifest import BundleError
        from model.runtime.engine import EngineError
        from model.variant_report import Precision
        from model.variants.make_variant import make_variant
        from model.variants.options import VariantError, VariantOptions
    options = VariantOptions(cast(Precision, precision), fused, pictures, name)
    folder = to or loaded.path.resolve().with_name(loaded.path.resolve().name + options.suffix)
    try:
        with announced(f"making {folder}"):
            variant = make_variant(loaded, folder, options, lambda step: typer.echo(f"{step} ...", err=True))
    except (BundleError, CheckpointError, EngineError, OSError, VariantError) as error:
        fail(str(error))
    report = variant.manifest.variant
    assert report is not None
    typer.echo(f"{variant.path}: {variant.id}, digest {variant.digest}")
    for heading, value in report.rows().items():
        typer.echo(f"{heading}: {value}")
    if fused and not (report.image.fused or report.text.fused):
        typer.echo("warning: nothing was fused: neither tower has a transformer", err=True)
    for warning in report.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"serve it: SIGHTWORD_MODEL={folder} python -m service")
