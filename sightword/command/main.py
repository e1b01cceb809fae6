"""The command `sightword`, and what it is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from sightword import __version__
from sightword.command import label_sets
from sightword.command.classify import classify
from sightword.command.doctor.command import doctor
from sightword.command.embed import embed
from sightword.command.rank import rank
from sightword.command.search import search
from sightword.command.serve import PASSED_ON, bulk, serve
from sightword.command.status import EXPLAINED

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=EXPLAINED,
    help="Vectors of pictures and texts, zero-shot classification, and search.\n\n"
    "Computes here, with the model that comes along; or asks a service, where SIGHTWORD_URL or --url says so. Writes "
    "tables on a terminal, and JSON lines elsewhere or with --json.\n\n"
    "Examples:\n\n"
    "  sightword classify cat.jpg --labels cat,dog\n\n"
    '  sightword rank photos/ "a dog on grass"\n\n'
    "  sightword embed photos/ -o vectors.npy\n\n"
    '  sightword search vectors.npy "red car"\n\n'
    "  sightword bulk shards/ --output vectors         millions of them, and on after an interruption\n\n"
    "  sightword serve                                 the same over HTTP, on http://127.0.0.1:8000\n\n"
    "  SIGHTWORD_URL=http://127.0.0.1:8000 sightword label-sets put pets --labels cat,dog\n\n"
    "  sightword doctor                                what is wrong, and what to do about it",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sightword {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """What comes before the subcommand."""


app.command("serve", context_settings=PASSED_ON, add_help_option=False)(serve)
app.command("bulk", context_settings=PASSED_ON, add_help_option=False)(bulk)
app.command("embed")(embed)
app.command("classify")(classify)
app.command("rank")(rank)
app.command("search")(search)
app.add_typer(label_sets.app, name="label-sets")
app.command("doctor")(doctor)


def main() -> None:
    """The entry point of the script."""
    app(prog_name="sightword")
