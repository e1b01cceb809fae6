"""Look at bundles and check them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from model import __version__
from model.commands.common import BundleArgument, fail, load
from model.config import MixtureConfig
from model.library_config import LibraryConfig
from model.requirements import needs


def inspect(
    bundle: BundleArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest as JSON.")] = False,
) -> None:
    """Say what a bundle is, where it came from and how it scored. Checks every hash first.

    Examples:

        python -m model inspect

        python -m model inspect runs/mine/bundle --json
    """
    loaded = load(bundle)
    manifest = loaded.manifest
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
        return
    config, trained = manifest.config, manifest.matryoshka_dimensions
    size = sum(record.bytes for record in manifest.files.values())
    rows = {
        "id": loaded.id,
        "digest": loaded.digest,
        "created": manifest.created,
        "size": f"{size / 1e6:.1f} MB in {len(manifest.files)} files",
        **({"network": f"{config.architecture} of {config.library}"} if isinstance(config, LibraryConfig) else {}),
        "image tower": config.image.model_dump_json(),
        "text tower": config.text.model_dump_json(),
        "dimensions": loaded.dimensions,
        **({"mixture": _mixture(loaded.mixture)} if loaded.mixture else {}),
        **({"trained to be cut to": ", ".join(map(str, trained))} if trained else {}),
        "precision": f"{loaded.precision} (weights stored as {manifest.weights_dtype})",
        "logit scale": f"{loaded.logit_scale:.3f}",
        "preprocessing": manifest.preprocessing.model_dump_json(),
        "export": manifest.export.model_dump_json(),
        "source": ", ".join(f"{key} {value}" for key, value in manifest.source.items() if isinstance(value, str)),
        **(manifest.variant.rows() if manifest.variant else {}),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        typer.echo(f"{name:<{width}}  {value}")
    for warning in manifest.warnings:
        typer.echo(f"{'WARNING':<{width}}  {warning}")
    for name, score in manifest.scores.items():
        typer.echo(f"{'score':<{width}}  {name}: {json.dumps(score)}")


def _mixture(mixture: MixtureConfig) -> str:
    return (
        f"{mixture.tokens} vectors of a picture, mixed for each text by {mixture.heads} heads at temperature "
        f"{mixture.temperature:g}"
    )


def verify(bundle: BundleArgument = None) -> None:
    """Check every hash, open all graphs and run each once. Exits with 1 and the reason if anything is wrong.

    Example:

        python -m model verify runs/mine/bundle
    """
    with needs("cpu"):
        from model.manifest import BundleError
        from model.runtime.engine import Engine, EngineError
    loaded = load(bundle)
    try:
        loaded.tokenizer()
        Engine(loaded, provider="cpu").warm_up()
    except (EngineError, BundleError) as error:
        fail(str(error))
    files = len(loaded.manifest.files)
    parts = "both towers" if loaded.mixture is None else "both towers and what mixes them"
    typer.echo(f"{bundle or loaded.path}: {files} files as recorded, {parts} run. Digest {loaded.digest}")


def presets() -> None:
    """List the model configurations that training knows by name."""
    from model.config import load_preset, preset_names

    for name in preset_names():
        config = load_preset(name)
        image = config.image
        typer.echo(f"{name:<22} {image.kind:<7} {image.image_size} px, {config.embed_dim} dimensions")


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
