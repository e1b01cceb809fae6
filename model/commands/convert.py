"""Import published checkpoints, and export bundles in the formats of others."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from model.commands.common import BundleArgument, conversion_tools, fail, load


class Act(StrEnum):
    """Activations that published checkpoints were trained with."""

    QUICK_GELU = "quick_gelu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"


class Format(StrEnum):
    """Formats of others that a bundle can be written in."""

    OPENCLIP = "openclip"
    HUGGINGFACE = "huggingface"


def import_(
    source: Annotated[Path, typer.Argument(help="Checkpoint file or folder.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Folder for the bundle; must be new or empty.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Id of the model; told from the source if left out.")] = None,
    activation: Annotated[Act | None, typer.Option(help="Overrides what the source says or leaves open.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize position embeddings for pictures this large.")] = None,
    exact_pixels: Annotated[
        bool, typer.Option("--exact-pixels", help="Ignore EXIF rotation, drop alpha, decode at full size.")
    ] = False,
) -> None:
    """Turn a published checkpoint into a bundle and check that both compute the same."""
    with conversion_tools():
        from model.checkpoints.checkpoint import CheckpointError, Options
        from model.checkpoints.importing import import_checkpoint
        from model.export import ExportError
    options = Options(activation.value if activation else None, None, image_size, exact_pixels)
    try:
        bundle, warnings = import_checkpoint(source, to, options, bundle_id=name)
    except (CheckpointError, ExportError) as error:
        fail(str(error))
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{bundle.path}: {bundle.id}, digest {bundle.digest}")


def export(
    bundle: BundleArgument,
    to: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.", show_default=False)],
    format_: Annotated[Format, typer.Option("--format", help="Whose format.", show_default=False)],
) -> None:
    """Write a bundle as a checkpoint that open_clip or transformers loads, with the same outputs."""
    loaded = load(bundle)
    with conversion_tools():
        from model.checkpoints import huggingface, openclip, siglip
        from model.checkpoints.checkpoint import CheckpointError
    try:
        if format_ is Format.OPENCLIP:
            openclip.write_folder(loaded, to)
        elif loaded.manifest.config.image.kind == "siglip":
            siglip.write_folder(loaded, to)
        else:
            huggingface.write_folder(loaded, to)
    except CheckpointError as error:
        fail(str(error))
    typer.echo(f"{to}: {loaded.id} for {format_.value}")
