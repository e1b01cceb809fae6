"""What a model of open_clip takes from other repositories: its tokenizer, and the configuration of its text tower."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.hub.download import Downloaded
from model.hub.errors import HubError
from model.hub.file_download import download_file
from model.hub.http import ProgressReporter, create_client
from model.hub.layouts import VOCABULARIES, tokenizer_files
from model.hub.names import Repository, is_repository
from model.hub.repository import list_model_files
from model.hub.settings import HubSettings

OPEN_CLIP_CONFIG = "open_clip_config.json"
MAX_CONFIG_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# Names of the hub's first years, without an organisation, and where they lead today.
_MOVED = {
    "roberta-base": "FacebookAI",
    "xlm-roberta-base": "FacebookAI",
    "xlm-roberta-large": "FacebookAI",
    "bert-base-uncased": "google-bert",
}


@dataclass(frozen=True)
class Companion:
    """A repository, as a configuration names it, and what is taken from it."""

    name: str
    tokenizer: bool = False  # into the folder of the model itself
    text_config: bool = False  # the config.json of the text tower, into the folder NAME below that


def companions(folder: Path) -> list[Companion]:
    """The repositories that the model in a folder needs beside its own. Raises HubError for a name that is none."""
    text_cfg = _text_cfg(folder / OPEN_CLIP_CONFIG)
    tower = text_cfg.get("hf_model_name")
    tokenizer = text_cfg.get("hf_tokenizer_name") or tower
    needed: dict[str, Companion] = {}
    if tower and not (folder / _checked(tower) / "config.json").is_file():
        needed[tower] = Companion(tower, text_config=True)
    if tokenizer and not any((folder / name).is_file() for name in VOCABULARIES):
        needed[tokenizer] = replace(needed.get(tokenizer, Companion(_checked(tokenizer))), tokenizer=True)
    return list(needed.values())


def download_companions(downloaded: Downloaded, settings: HubSettings, reporter: ProgressReporter) -> None:
    """Fetch what the model takes from elsewhere, beside its files; the commits go into its origin. Raises HubError."""
    token = settings.token.get_secret_value() if settings.token else None
    for companion in companions(downloaded.checkpoint):
        repository = Repository(_place(companion.name))
        reporter.note(f"{companion.name}: {_describe(companion)}, which the model names and its repository lacks")

        def select(available: Collection[str], wanted: Companion = companion) -> list[str]:
            names = ["config.json"] if wanted.text_config and "config.json" in available else []
            return names + (tokenizer_files(available) if wanted.tokenizer else [])

        with create_client(token) as client:
            found = list_model_files(client, settings.endpoint, repository, reporter, select=select)
            for remote in found.files:
                is_config = remote.name == "config.json"
                to = downloaded.checkpoint / companion.name if is_config else downloaded.checkpoint
                download_file(client, remote, to, reporter)
        downloaded.origin["published"].setdefault("companions", {})[companion.name] = found.commit


def _describe(companion: Companion) -> str:
    parts = {"the tokenizer": companion.tokenizer, "the configuration of the text tower": companion.text_config}
    return " and ".join(name for name, wanted in parts.items() if wanted)


def _text_cfg(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(MAX_CONFIG_BYTES))
        text_cfg = content["model_cfg"]["text_cfg"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}  # the import says what is wrong with it
    return text_cfg if isinstance(text_cfg, dict) else {}


def _checked(name: object) -> str:
    if not isinstance(name, str) or ".." in name or not (is_repository(name) or _NAME.fullmatch(name)):
        raise HubError(f"{OPEN_CLIP_CONFIG} names {name!r:.100} for its texts, which is no repository of the hub")
    return name


def _place(name: str) -> str:
    return name if "/" in name else f"{_MOVED.get(name, name)}/{name}"
