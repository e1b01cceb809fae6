"""What the commands share: how they fail, and the argument that names a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from model.bundle import Bundle, BundleError, bundled

BUNDLED = bundled()
BundleArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of the bundle; the bundled checkpoint if left out.", show_default=False, envvar="SIGHTWORD_MODEL"
    ),
]


def load(path: Path) -> Bundle:
    """Load a bundle, or end with the reason."""
    try:
        return Bundle.load(path)
    except BundleError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End with the message on stderr and exit code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)


@contextmanager
def conversion_tools() -> Iterator[None]:
    """Within it, torch and what writes graphs may be imported; where they are missing, say how to install them."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "onnx", "onnxscript", "safetensors"):
            raise
        fail(f'{error.name} is not installed, and this command needs it: pip install "sightword[cpu,convert]"')
