"""Where models come from and where they are kept: from the environment, or a file `.env`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.environment import ENCODING, ENV_FILE, HUB, PREFIX, EnvironmentFileError, read_file
from model.hub.errors import HubError


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sightword"


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:  # whose text may hold a password
        good = False
    if not good:
        raise ValueError("should be an address such as https://host/path")
    return text.rstrip("/")


def _token(secret: SecretStr) -> SecretStr | None:
    """Without what an editor or `echo` put at its end; as the value of a header, and so that no error repeats it."""
    text = secret.get_secret_value().strip()
    if not re.fullmatch("[!-~]*", text):
        raise ValueError("holds spaces, line breaks or characters that no token has: set it to the token alone")
    return SecretStr(text) if text else None


Folder = Annotated[Path, AfterValidator(Path.expanduser)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
Token = Annotated[SecretStr, AfterValidator(_token)]


class HubSettings(BaseSettings):
    """The variables that `python -m model pull` reads; those of the Hugging Face hub under the names it gave them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding=ENCODING,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    home: Folder = Field(default_factory=_cache_folder, validate_default=True)
    offline: bool = Field(False, validation_alias=AliasChoices("SIGHTWORD_OFFLINE", "HF_HUB_OFFLINE"))
    offline_folder: Folder | None = None
    openai_mirror: WebAddress | None = None
    endpoint: WebAddress = Field("https://huggingface.co", validation_alias="HF_ENDPOINT")
    token: Token | None = Field(None, validation_alias="HF_TOKEN")

    @classmethod
    def read(cls) -> HubSettings:
        """From the environment. HubError names the variable that is wrong."""
        try:
            read_file()
            return cls()
        except EnvironmentFileError as error:
            raise HubError(str(error)) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = str(first["loc"][0])
            variable = f"{PREFIX}{name.upper()}" if name in cls.model_fields else name
            raise HubError(f"{variable}: {first['msg'].removeprefix('Value error, ')}") from None


def without_credentials(address: str) -> str:
    """An address to show or keep: without the name and password that may be before its host."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


VARIABLES = frozenset(PREFIX + name for name in HUB)
