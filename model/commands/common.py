"""What the commands share: how they fail, the argument that names a bundle, and options of a few names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from model import progress
from model.suggestions import did_you_mean_path, not_one_of

if TYPE_CHECKING:
    from model.bundle import Bundle


def _default_model(context: typer.Context, parameter: typer.CallbackParam, value: Path | None) -> Path | None:
    """Of the names that SIGHTWORD_MODEL may list for the service, the first, as there; an argument stays as it is."""
    source = context.get_parameter_source(parameter.name or "")
    if (
        source is None or source.name != "ENVIRONMENT"
    ):  # by name, as the enumeration is private in some releases of typer
        return value
    return next((Path(name) for part in str(value).split(",") if (name := part.strip())), None)


BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        help="Folder of the bundle, or name of a pulled model; the bundled checkpoint if left out.",
        metavar="[BUNDLE]",
        show_default=False,
        envvar="SIGHTWORD_MODEL",
        callback=_default_model,
    ),
]

# For commands that write beside it, where the checkpoint that ships would be no good default.
NamedBundle = Annotated[
    Path, typer.Argument(help="Folder of the bundle, or name of a pulled model.", metavar="BUNDLE", show_default=False)
]


def load(path: Path | None) -> Bundle:
    """Load a bundle, by its folder or the name that it was pulled by, or end with the reason. None: the bundled one."""
    from model.bundle import Bundle, bundled
    from model.manifest import BundleError

    path = path or bundled()
    try:
        return Bundle.load(path if path.exists() else _pulled(str(path)))
    except BundleError as error:
        fail(str(error))


def _pulled(name: str) -> Path:
    from model.hub.errors import HubError
    from model.hub.folders import find_bundle

    near = did_you_mean_path(name).removeprefix(": ")
    try:
        folder = find_bundle(name)
    except HubError as error:
        fail(f"{name} is no folder, and {error}{near and f'; or {near}'}")
    if folder is None:
        fail(f"{name} is no folder, and no model that was pulled: python -m model pull {name}{near and f'; or {near}'}")
    return folder


def one_of(*names: str) -> Callable[[Any], Any]:
    """A callback for an option of one name or of several. Raises typer.BadParameter for what is none of `names`."""

    def check(value: str | list[str] | None) -> str | list[str] | None:
        for name in [value] if isinstance(value, str) else value or ():
            if name not in names:
                raise typer.BadParameter(not_one_of(name, names))
        return value

    return check


def announced(what: str) -> AbstractContextManager[None]:
    """Within it a line on stderr tells that `what` goes on, now and every half minute."""
    return progress.announced(lambda line: typer.echo(line, err=True), what)


def note(message: str) -> None:
    """A line on stderr."""
    typer.echo(message, err=True)


def fail(message: str) -> NoReturn:
    """End with the message on stderr and exit code 1."""
    typer.echo(message, err=True)
    raise typer.Exit(1)
