"""What a parent hands down to a worker process: descriptors, and the settings that the parent has read.

They go through memory that only the two share. The command line and the environment, which the system shows to others,
name no secret that the parent's own do not; and a worker that is started a month later has the settings of the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from pydantic import SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from service import shared_memory
from service.settings import Settings

VARIABLE = "_SIGHTWORD_HANDOVER"  # the descriptor of that memory; taken out of the environment at once
_SECRETS = [name for name, field in Settings.model_fields.items() if field.annotation == SecretStr | None]
_SECRET_OPTIONS = {f"--{name.replace('_', '-')}" for name in _SECRETS}


@dataclass(frozen=True)
class Handover:
    """Which worker this is, of how many, and the descriptors that it inherits."""

    number: int
    count: int
    settings: Mapping[str, Any]
    sockets: Sequence[int]  # that listen
    channel: int  # to the parent
    board: int
    cache: int | None  # memory of the cache; None where there is none
    weights: str | None = None  # the folder of weights that workers share; None where each has its own

    @property
    def descriptors(self) -> list[int]:
        """All that the worker inherits."""
        return [*self.sockets, self.channel, self.board, *([] if self.cache is None else [self.cache])]

    def write(self) -> int:
        """The descriptor of memory that holds this, for `take`."""
        data = orjson.dumps(asdict(self))
        descriptor = shared_memory.create("sightword-handover", len(data))
        os.pwrite(descriptor, data, 0)
        return descriptor

    def read_settings(self) -> Settings:
        """The settings of the parent, and nothing that has come into the environment or `.env` since."""
        return _HandedDown(**self.settings)


def take() -> Handover | None:
    """What this process was handed down; None where it was not started as a worker."""
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    descriptor = int(text)
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    os.close(descriptor)
    return Handover(**orjson.loads(data))


def to_hand_down(settings: Settings) -> dict[str, Any]:
    """What was set of the settings, as JSON, with the secrets in the clear."""
    values = settings.model_dump(mode="json", exclude_unset=True)
    for name in _SECRETS:
        if (secret := getattr(settings, name)) is not None:
            values[name] = secret.get_secret_value()
    return values


def command() -> list[str]:
    """The command line of this process, for a worker: the same program, without the options that hold secrets."""
    line, left = [sys.executable], sys.orig_argv[1:]
    while left:
        argument = left.pop(0)
        name, has_value, _ = argument.partition("=")
        if name not in _SECRET_OPTIONS:
            line.append(argument)
        elif not has_value:  # which is the next argument
            del left[:1]
    return line


class _HandedDown(Settings):
    """Settings that are read from nowhere."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (named["init_settings"],)
