"""Import published checkpoints, and export bundles in the formats of others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from model.commands.common import NamedBundle, announced, fail, load, note, one_of
from model.requirements import needs

if TYPE_CHECKING:
    from model.checkpoints.checkpoint import Options


ACTIVATIONS = ("quick_gelu", "gelu", "gelu_tanh")  # that published checkpoints were trained with
FORMATS = ("openclip", "huggingface")


def import_(
    source: Annotated[Path, typer.Argument(help="Checkpoint file or folder.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Folder for the bundle, new or empty.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Id of the model; told from the source if left out.")] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            help="Overrides what the source says or leaves open.",
            metavar="|".join(ACTIVATIONS),
            callback=one_of(*ACTIVATIONS),
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            help="Of a file whose shapes do not tell all: a preset, a name that open_clip has, or the JSON of an "
            "open_clip configuration."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the tokenizer of such an architecture, where that is not CLIP's, and with the "
            "config.json of its text model, where that is one of transformers."
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Resize position embeddings, for pictures of this many pixels.")
    ] = None,
    exact_pixels: Annotated[
        bool,
        typer.Option(
            "--exact-pixels",
            help="Treat rotated, transparent and very large pictures as the original's code does: EXIF is ignored, "
            "and JPEGs are decoded at their full size.",
        ),
    ] = False,
    matryoshka_dimensions: Annotated[
        str | None,
        typer.Option(
            help="Lengths that the vectors were trained to be cut to, as 64,128,256, where the files do not say it.",
            metavar="LENGTHS",
        ),
    ] = None,
    logit_scale: Annotated[
        float | None, typer.Option(help="Of ONNX exports, which hold none: what cosines are multiplied by.")
    ] = None,
    logit_bias: Annotated[
        float | None, typer.Option(help="Beside it, of models trained with the sigmoid loss.")
    ] = None,
) -> None:
    """Turn a published checkpoint into a bundle, and check that both compute the same.

    SOURCE is OpenAI's .pt, a file of weights in OpenAI's layout, an open_clip folder or training checkpoint, a folder
    of transformers, or one with the ONNX graphs of both towers. Nothing in it is executed, and nothing is fetched.

    CLIP and SigLIP are read exactly, by Sightword itself. A network of another kind (ConvNeXt, MobileCLIP, EVA,
    multilingual text towers, ...) is built by the library that defines it, open_clip or transformers, which are in the
    extra `convert-all`: what is missing is named, with the commands that install it. What is printed, and kept in
    bundle.json, says which of the two it was. Such a bundle is served and quantised as any; it cannot be trained.

    Examples:

        python -m model import ViT-B-32.pt --to vit-b-32

        python -m model import laion-folder --to laion --image-size 336

        python -m model import epoch_32.pt --to mine --architecture ViT-B-16 --activation gelu
    """
    with needs("convert"):
        from model.checkpoints.checkpoint import CheckpointError, Options
        from model.checkpoints.importer import import_checkpoint
        from model.config import Activation
        from model.export.bundle import ExportError
    try:
        options = Options(
            cast(Activation | None, activation),
            None,
            image_size,
            exact_pixels,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            tokenizer=tokenizer,
            matryoshka_dimensions=_lengths(matryoshka_dimensions),
        )
        options = read_architecture(architecture, options)
        with announced(f"reading {source}, writing its graphs and comparing them: half a minute for ViT-B/32"):
            bundle, warnings = import_checkpoint(source, to, options, bundle_id=name, note=note)
    except (CheckpointError, ExportError) as error:
        fail(str(error))
    if unwrapped := bundle.manifest.source.get("unwrapped"):
        typer.echo(f"unwrapped: {unwrapped}", err=True)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    report = bundle.manifest.export
    typer.echo(f"{to}: {bundle.id}, {bundle.dimensions} dimensions, digest {bundle.digest}")
    typer.echo(
        f"largest difference to the network: pictures {report.image_max_abs_diff:.1e}, texts "
        f"{report.text_max_abs_diff:.1e}; smallest cosine {min(report.image_min_cosine, report.text_min_cosine):.7f}"
    )
    typer.echo(f"serve it: SIGHTWORD_MODEL={to} python -m service")


def _lengths(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if wrong := [part for part in parts if not re.fullmatch("[0-9]{1,6}", part)]:
        fail(f"--matryoshka-dimensions: {wrong[0][:40]!r} is not a length: they are written as 64,128,256")
    return tuple(map(int, parts))


def read_architecture(named: str | None, options: Options) -> Options:
    """The options with the preset or open_clip's architecture of that name, or of a file. Raises CheckpointError."""
    from dataclasses import replace

    from model.checkpoints import openclip
    from model.checkpoints.checkpoint import CheckpointError
    from model.config import PresetError, load_preset, preset_names

    if named is None:
        if options.tokenizer is not None:
            raise CheckpointError("--tokenizer belongs to an --architecture: a folder has its own tokenizer")
        return options
    if Path(named).suffix == ".json":
        return openclip.read_architecture(Path(named), options)
    try:
        return replace(options, architecture=load_preset(named), preset=True)
    except PresetError:
        return openclip.named_architecture(named, preset_names(), options)


def export(
    bundle: NamedBundle,
    format_: Annotated[
        str, typer.Option("--format", help="Whose format.", metavar="|".join(FORMATS), callback=one_of(*FORMATS))
    ],
    to: Annotated[
        Path | None, typer.Option(help="Folder to write, new or empty; beside the bundle if left out.")
    ] = None,
) -> None:
    """Write a bundle as a checkpoint that open_clip or transformers loads, with the same outputs.

    Example:

        python -m model export runs/mine/bundle --format openclip --to mine-openclip
    """
    loaded = load(bundle)
    beside = loaded.path.resolve()
    folder = to or beside.with_name(f"{beside.name}-{format_}")
    with needs("convert"):
        from model.checkpoints import openclip, transformers
        from model.checkpoints.checkpoint import CheckpointError
    try:
        write_folder = openclip.write_folder if format_ == "openclip" else transformers.write_folder
        with announced(f"writing {folder}"):
            write_folder(loaded, folder)
    except CheckpointError as error:
        fail(str(error))
    typer.echo(f"{folder}: {loaded.id} for {format_}; its README.md says how to load it")
