"""The command: serve a bundle over HTTP. Every setting is an option."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from pydantic_core import PydanticUndefined
from typer.models import OptionInfo

from model.requirements import needs
from service.settings import PREFIX, Settings, SettingsError, unknown_variables

log = logging.getLogger("service")
SECRETS = ("api_keys", "admin_key")
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


def flag(name: str) -> OptionInfo:
    """An option with the help of its setting; without a default, so that the environment speaks where it is silent."""
    field = Settings.model_fields[name]
    told = "" if field.default in (None, (), "", PydanticUndefined) else f" [default: {field.default}]"
    option: OptionInfo = typer.Option(help=f"{field.description}{told} ({PREFIX}{name.upper()})", show_default=False)
    return option


@app.command()
def serve(
    host: Annotated[str | None, flag("host")] = None,
    port: Annotated[int | None, flag("port")] = None,
    root_path: Annotated[str | None, flag("root_path")] = None,
    model: Annotated[str | None, flag("model")] = None,
    provider: Annotated[str | None, flag("provider")] = None,
    api_keys: Annotated[str | None, flag("api_keys")] = None,
    api_keys_file: Annotated[Path | None, flag("api_keys_file")] = None,
    admin_key: Annotated[str | None, flag("admin_key")] = None,
    redis_url: Annotated[str | None, flag("redis_url")] = None,
    redis_prefix: Annotated[str | None, flag("redis_prefix")] = None,
    cache_bytes: Annotated[int | None, flag("cache_bytes")] = None,
    cache_ttl_s: Annotated[int | None, flag("cache_ttl_s")] = None,
    label_sets: Annotated[Path | None, flag("label_sets")] = None,
    url_hosts: Annotated[str | None, flag("url_hosts")] = None,
    url_networks: Annotated[str | None, flag("url_networks")] = None,
    max_body_bytes: Annotated[int | None, flag("max_body_bytes")] = None,
    max_image_pixels: Annotated[int | None, flag("max_image_pixels")] = None,
    max_items: Annotated[int | None, flag("max_items")] = None,
    max_labels: Annotated[int | None, flag("max_labels")] = None,
    queue_items: Annotated[int | None, flag("queue_items")] = None,
    queue_bytes: Annotated[int | None, flag("queue_bytes")] = None,
    max_batch: Annotated[int | None, flag("max_batch")] = None,
    timeout_s: Annotated[float | None, flag("timeout_s")] = None,
    drain_s: Annotated[float | None, flag("drain_s")] = None,
    truncate: Annotated[bool | None, flag("truncate")] = None,
    log_format: Annotated[str | None, flag("log_format")] = None,
) -> None:
    """Serve text and image embeddings, similarity and zero-shot classification over HTTP.

    Every option can also be set by the environment variable named beside it, or in a file `.env`; options win.

    Try it:

        python -m service

        curl localhost:8000/embed -H 'content-type: application/json' -d '{"inputs": ["a cat", "a dog"]}'

        curl localhost:8000/embed -H 'content-type: image/jpeg' --data-binary @cat.jpg

        curl 'localhost:8000/classify?labels=cat,dog' -H 'content-type: image/jpeg' --data-binary @cat.jpg

    Then see http://localhost:8000/docs for every endpoint and /info for the limits in force.
    One process serves one device; for more throughput run more of them behind a balancer.
    """
    try:
        flags = dict(locals())
        settings = Settings.read(flags)
        unknown = unknown_variables()
    except SettingsError as error:
        raise typer.BadParameter(str(error)) from None
    with needs("cpu"):  # not above: `--help` takes no time and needs no runtime
        from model.bundle import BundleError
        from model.runtime.engine import EngineError, usable_cores
        from service import logs
        from service.memory import container_limit, give_back_large_blocks, warn_if_short
        from service.server import Server, end_now
        from service.state import Service
        from service.threads import still_running
        from service.web.auth import warn_if_open
        from service.web.binding import BindingError, bind
    logs.configure(settings.log_format)
    give_back_large_blocks()
    for name, offer in unknown.items():
        log.warning("%s is not a setting: %s", name, offer or "see --help for those there are")
    for name in SECRETS:
        if flags[name] is not None:
            told = name.replace("_", "-")
            log.warning("--%s shows a secret to everybody on this machine; use %s", told, PREFIX + name.upper())
    try:
        service = Service(settings)
        server = Server(service)
    except SettingsError as error:  # what only shows when it is used, such as a URL
        raise typer.BadParameter(str(error)) from None
    warn_if_open(service.keys, settings.host)
    warn_if_short(settings, usable_cores(), container_limit())
    try:
        server.loading = service.models.check()
        sockets = bind(settings.host, settings.port)
    except (BundleError, EngineError, BindingError) as error:
        log.critical("cannot start: %s", error)
        raise typer.Exit(1) from None
    server.run(sockets)
    status = 1 if server.failed or not server.started else 0
    if still_running():  # to take the interpreter down under it would abort the process
        end_now(status)
    raise typer.Exit(status)
