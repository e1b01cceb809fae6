"""A repository on the Hugging Face hub: which of its files make a model, and what is published of them."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, Field, ValidationError

from model.hub.download import LISTING_S, Remote, Watcher, asking, persist
from model.hub.errors import HubError, TransientError
from model.hub.names import Repository

MAX_LISTING_BYTES = 16 * 2**20
# Only these names are ever fetched; whatever else a repository holds has no way onto this machine.
# An open_clip configuration comes first: it also says how pictures were prepared.
_LAYOUTS = (
    (
        "open_clip_config.json",
        ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    ),
    ("config.json", ("model.safetensors", "pytorch_model.bin")),
)
_BESIDE = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "spiece.model", "preprocessor_config.json", "processor_config.json",
)  # fmt: skip


class _Lfs(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _File(BaseModel):
    name: str = Field(alias="rfilename")
    size: int | None = Field(None, ge=0, le=2**50)
    git_sha1: str | None = Field(None, alias="blobId", pattern=r"^[0-9a-f]{40}$")
    lfs: _Lfs | None = None


class _Listing(BaseModel):
    commit: str = Field(alias="sha", pattern=r"^[0-9a-f]{40}$")
    files: list[_File] = Field(alias="siblings")
    card: dict[str, Any] | None = Field(None, alias="cardData")


@dataclass(frozen=True)
class Found:
    """A model in a repository, as of one commit."""

    commit: str
    files: Sequence[Remote]
    licence: str | None  # as its page says


def look_up(client: httpx2.Client, endpoint: str, repository: Repository, watcher: Watcher) -> Found:
    """Ask the hub at `endpoint` for the files of a model. Raises HubError where there is none that we could read."""
    url = f"{endpoint}/api/models/{repository.repo}/revision/{quote(repository.revision, safe='')}?blobs=true"
    listing = _parse(persist(lambda: _read(client, url, repository.repo), watcher), repository.repo)
    by_name = {file.name: file for file in listing.files}
    base = f"{endpoint}/{repository.repo}/resolve/{listing.commit}"
    files = [_remote(base, by_name[name]) for name in choose(by_name, repository.repo)]
    licence = (listing.card or {}).get("license")
    plain = isinstance(licence, str) and re.fullmatch(r"[\w. -]{1,60}", licence, re.ASCII)
    return Found(listing.commit, files, licence if plain else None)


def choose(there: Collection[str], repo: str) -> list[str]:
    """The files of `there` that are needed: a configuration, weights in one format, and what tokenizer there is."""
    for config, formats in _LAYOUTS:
        for name in formats if config in there else ():
            if weights := _weights(there, name):
                return [config, *(file for file in _BESIDE if file in there), *weights]
    wanted = " or ".join(f"{config} with {formats[0]}" for config, formats in _LAYOUTS)
    raise HubError(f"{repo} holds no model that can be imported: that would be {wanted}")


def _weights(there: Collection[str], name: str) -> list[str]:
    """A file of weights, or its shards and their index."""
    if name in there:
        return [name]
    index, (stem, _, suffix) = f"{name}.index.json", name.rpartition(".")
    if index not in there:
        return []
    shard = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}\.{suffix}", re.ASCII)
    return [index, *sorted(file for file in there if shard.fullmatch(file))]


def _read(client: httpx2.Client, url: str, name: str) -> bytes:
    with asking(client, url, name) as response:
        content, ends = bytearray(), time.monotonic() + LISTING_S
        for piece in response.iter_raw():
            content += piece
            if time.monotonic() > ends:
                raise TransientError(f"{response.url.host} did not list the files of {name} within {LISTING_S:g} s")
            if len(content) > MAX_LISTING_BYTES:
                raise HubError(f"{response.url.host} lists more files of {name} than a model has")
        return bytes(content)


def _parse(content: bytes, name: str) -> _Listing:
    try:
        return _Listing.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise HubError(f"the hub's list of the files of {name} is not understood: {where}: {first['msg']}") from None


def _remote(base: str, file: _File) -> Remote:
    sha256 = file.lfs.sha256 if file.lfs else None
    return Remote(f"{base}/{quote(file.name)}", file.name, file.size, sha256, None if file.lfs else file.git_sha1)
