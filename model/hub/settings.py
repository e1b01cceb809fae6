"""Where models come from and where they are kept: from the environment, or a file `.env`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.hub.errors import HubError

PREFIX = "SIGHTWORD_"


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sightword"


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("should be an address such as https://host/path")
    return text.rstrip("/")


Folder = Annotated[Path, AfterValidator(Path.expanduser)]
WebAddress = Annotated[str, AfterValidator(_web_address)]


class HubSettings(BaseSettings):
    """The variables that `python -m model pull` reads; those of the Hugging Face hub under the names it gave them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    home: Folder = Field(default_factory=_cache_folder, validate_default=True)
    offline: bool = Field(False, validation_alias=AliasChoices("SIGHTWORD_OFFLINE", "HF_HUB_OFFLINE"))
    offline_folder: Folder | None = None
    openai_mirror: WebAddress | None = None
    endpoint: WebAddress = Field("https://huggingface.co", validation_alias="HF_ENDPOINT")
    token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")

    @classmethod
    def read(cls) -> HubSettings:
        """From the environment. HubError names the variable that is wrong."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0])
            variable = f"{PREFIX}{name.upper()}" if name in cls.model_fields else name
            raise HubError(f"{variable}: {first['msg'].removeprefix('Value error, ')}") from None


# As the service must know that these are none of its own.
VARIABLES = frozenset(f"{PREFIX}{name}" for name in ("HOME", "OFFLINE", "OFFLINE_FOLDER", "OPENAI_MIRROR"))
