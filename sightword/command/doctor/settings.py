"""The settings of the service, variables that nothing reads, Redis, and the service at SIGHTWORD_URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from redis.asyncio import Redis

from model.environment import EnvironmentFileError, unknown_variables
from service.cache.connection import address, connect, describe_failure
from service.settings import Settings, SettingsError
from sightword.client import Client
from sightword.command.backend import URL_VARIABLE
from sightword.command.doctor.finding import Finding, fail, ok, warn
from sightword.errors import SightwordError

REDIS_S = 5.0
SERVICE_S = 10.0


def check_variables() -> Iterator[Finding]:
    """Misspelt ones."""
    about = "variables"
    try:
        unknown = unknown_variables()
    except EnvironmentFileError as error:
        yield fail(about, str(error), "correct the file, or move it away")
        return
    for name, suggestion in unknown.items():
        yield warn(about, f"{name} is read by nothing", suggestion or "see sightword serve --help for those there are")
    if not unknown:
        yield ok(about, "none is misspelt")


def read_settings() -> tuple[Settings, list[Finding]]:
    """The settings of the service, or the defaults and what is wrong."""
    try:
        return Settings.read({}), []
    except SettingsError as error:
        return Settings.model_construct(), [fail("settings", str(error), "correct the variable, or its line in .env")]


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Nothing where none is configured."""
    if settings.redis_url is None:
        return
    about = "redis"
    try:
        client = connect(settings.redis_url, connections=1, timeout_s=REDIS_S)
    except SettingsError as error:
        yield fail(about, str(error), "correct SIGHTWORD_REDIS_URL")
        return
    failure = asyncio.run(_ping(client))
    if failure:
        yield fail(about, failure, "start it, or correct SIGHTWORD_REDIS_URL; the service runs without, and slower")
    else:
        yield ok(about, f"{address(client)} answers")


async def _ping(client: Redis) -> str:
    try:
        async with asyncio.timeout(REDIS_S):
            await client.ping()
    except Exception as error:  # redis raises those of sockets and TLS, too
        return f"{address(client)} does not answer: {describe_failure(error, client)}"
    finally:
        await client.aclose()
    return ""


def check_service() -> Iterator[Finding]:
    """The one that the other commands ask; nothing where there is none."""
    if not os.environ.get(URL_VARIABLE):
        return
    about = "service"
    try:
        with Client(timeout_s=SERVICE_S) as client:
            info = client.info()
            yield ok(about, f"{client!r}: version {info.version}, {', '.join(model.id for model in info.models)}")
    except (SightwordError, ValueError) as error:
        yield fail(about, str(error), f"start it, or correct {URL_VARIABLE} and SIGHTWORD_API_KEY")
