"""`python -m model`: look at bundles and check them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from model import __version__
from model.bundle import Bundle, BundleError, bundled
from model.config import load_preset, preset_names
from model.engine import Engine, EngineError

app = typer.Typer(
    no_args_is_help=True,
    help="Look at model bundles and check them.\n\n"
    "A bundle is a folder with bundle.json, image.onnx, text.onnx, tokenizer.json and weights.safetensors: "
    "what training exports and the service serves.\n\n"
    "Examples:\n\n"
    "  python -m model inspect                    the checkpoint that ships with Sightword\n\n"
    "  python -m model verify runs/sample/bundle  every hash, then one run of each tower",
)

BundleArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of the bundle; the bundled checkpoint if left out.", show_default=False, envvar="SIGHTWORD_MODEL"
    ),
]
BUNDLED = bundled()


@app.command()
def inspect(
    bundle: BundleArgument = BUNDLED,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest as JSON.")] = False,
) -> None:
    """Say what a bundle is, where it came from and how it scored. Checks every hash first."""
    loaded = _load(bundle)
    manifest = loaded.manifest
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
        return
    size = sum(record.bytes for record in manifest.files.values())
    rows = {
        "id": loaded.id,
        "digest": loaded.digest,
        "created": manifest.created,
        "size": f"{size / 1e6:.1f} MB in {len(manifest.files)} files",
        "image tower": manifest.config.image.model_dump_json(),
        "text tower": manifest.config.text.model_dump_json(),
        "dimensions": loaded.dimensions,
        "precision": f"{loaded.precision} (weights stored as {manifest.weights_dtype})",
        "logit scale": f"{loaded.logit_scale:.3f}",
        "preprocessing": manifest.preprocessing.model_dump_json(),
        "export": manifest.export.model_dump_json(),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        typer.echo(f"{name:<{width}}  {value}")
    for name, score in manifest.scores.items():
        typer.echo(f"{'score':<{width}}  {name}: {json.dumps(score)}")


@app.command()
def verify(bundle: BundleArgument = BUNDLED) -> None:
    """Check every hash, open both graphs and run each once. Exits with 1 and the reason if anything is wrong."""
    loaded = _load(bundle)
    try:
        loaded.tokenizer()
        Engine(loaded, provider="cpu").warm_up()
    except (EngineError, BundleError) as error:
        _fail(str(error))
    typer.echo(f"{bundle}: {len(loaded.manifest.files)} files as recorded, both towers run. Digest {loaded.digest}")


@app.command()
def presets() -> None:
    """List the model configurations that training knows by name."""
    for name in preset_names():
        config = load_preset(name)
        image = config.image
        typer.echo(f"{name:<22} {image.kind:<7} {image.image_size} px, {config.embed_dim} dimensions")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _load(path: Path) -> Bundle:
    try:
        return Bundle.load(path)
    except BundleError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app(prog_name="python -m model")
