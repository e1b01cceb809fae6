"""The command: serve a bundle over HTTP. Every setting is an option."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
import typer.core
import typer.main
from pydantic_core import PydanticUndefined

from model.requirements import needs
from service.platforms import SAGEMAKER_ARGUMENT, SAGEMAKER_PORT, SAGEMAKER_PORT_VARIABLE
from service.settings import PREFIX, Settings, SettingsError, unknown_variables
from service.workers import handover

log = logging.getLogger("service")
SECRETS = ("api_keys", "admin_key")  # settings that an option would show to everybody
BULK = "bulk"
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


class _ServeOrBulk(typer.core.TyperCommand):
    """What it was before there was a second command, options without a name before them; `bulk` first is the other."""

    @property
    def commands(self) -> dict[str, Any]:
        """Those with a name."""
        from service.bulk.command import bulk  # not above: a worker that serves has no use for it

        single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        single.command()(bulk)
        return {BULK: typer.main.get_command(single)}

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Of the command that the first argument names."""
        if args[:1] == [BULK]:
            return self.commands[BULK].make_context(f"{info_name} {BULK}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command of the context."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


def _option(name: str) -> Parameter:
    """The option of one setting. Its default is None, so that the environment speaks where the option is not given."""
    field = Settings.model_fields[name]
    kinds = {field.annotation, *get_args(field.annotation)}
    kind = next((each for each in (bool, int, float, Path) if each in kinds), str)  # Settings parses the others
    if any(get_origin(each) is Literal for each in kinds):  # or a word
        kind = str
    default = "" if field.default in (None, (), "", PydanticUndefined) else f" [default: {field.default}]"
    option = typer.Option(help=f"{field.description}{default} ({PREFIX}{name.upper()})", show_default=False)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def _options_from_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**flags` an option for each field of Settings.

    The command line of pydantic-settings would give the same options. It does not offer the nearest name for one that
    is misspelt, does not show the variables in `--help`, and adds up an option that is given twice; and this command
    would look different from `python -m model` and `python -m training`.
    """
    argument = typer.Argument(hidden=True)  # what SageMaker starts every container with
    parameters = [
        Parameter("argument", Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, argument]),
        *(_option(name) for name in Settings.model_fields),
    ]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return command


@app.command(cls=_ServeOrBulk)
@_options_from_settings
def serve(argument: str | None = None, **flags: Any) -> None:
    """Serve text and image embeddings, similarity and zero-shot classification over HTTP.

    Every option can also be set by the environment variable named beside it, or in a file `.env`; options win.

    Try it:

        python -m service

        curl localhost:8000/embed -H 'content-type: application/json' -d '{"inputs": ["a cat", "a dog"]}'

        curl localhost:8000/embed -H 'content-type: image/jpeg' --data-binary @cat.jpg

        curl 'localhost:8000/classify?labels=cat,dog' -H 'content-type: image/jpeg' --data-binary @cat.jpg

    Vectors of many files, without HTTP, into a folder: `python -m service bulk photos --output vectors`; its options
    are in `python -m service bulk --help`.

    Then see http://localhost:8000/docs for every endpoint and /info for the limits in force.
    One service has one device, and SIGHTWORD_WORKERS processes on one port; for more devices or machines run more
    services behind a balancer.
    """
    if argument not in (None, SAGEMAKER_ARGUMENT):
        raise typer.BadParameter(f"there are no arguments, only options: {argument}")
    if argument is not None:
        os.environ.setdefault(SAGEMAKER_PORT_VARIABLE, SAGEMAKER_PORT)
    handed_down = handover.take()
    try:
        settings = Settings.read(flags) if handed_down is None else handed_down.read_settings()
        unknown = unknown_variables(settings) if handed_down is None else {}
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    with needs("cpu"):  # not above: `--help` takes no time and needs no runtime
        from service import logs, starting

        if handed_down is not None:
            from service.serving import run_worker
    if handed_down is not None:
        raise typer.Exit(run_worker(handed_down, settings))
    logs.configure(settings.log_format)
    for name, suggestion in unknown.items():
        log.warning("%s is not a setting: %s", name, suggestion or "see --help for those there are")
    for name in SECRETS:
        if flags[name] is not None:
            option, variable = name.replace("_", "-"), PREFIX + name.upper()
            log.warning("--%s shows a secret to everybody on this machine; use %s", option, variable)
    try:
        raise typer.Exit(starting.run(settings))
    except SettingsError as error:  # what only shows when it is used, such as a URL
        raise typer.BadParameter(str(error)) from None
