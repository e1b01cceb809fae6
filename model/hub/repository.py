"""A repository on the Hugging Face hub: which of its files make a model, and what is published of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, Field, ValidationError

from model.hub.errors import HubError, TransientError
from model.hub.file_download import RemoteFile
from model.hub.http import ProgressReporter, retry, stream_get
from model.hub.layouts import select_files
from model.hub.names import Repository
from model.hub.remote_code import describe_remote_code

MAX_LISTING_BYTES, LISTING_TIMEOUT_S = 16 * 2**20, 120.0


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
    config: dict[str, Any] | None = None  # some fields of its config.json


@dataclass(frozen=True)
class ModelFiles:
    """The files of a repository that make a model, as of one commit."""

    commit: str
    files: Sequence[RemoteFile]
    licence: str | None  # of the model card


def list_model_files(
    client: httpx2.Client,
    endpoint: str,
    repository: Repository,
    reporter: ProgressReporter,
    max_bytes: int = MAX_LISTING_BYTES,
    select: Callable[[Collection[str]], list[str]] | None = None,
) -> ModelFiles:
    """Ask the hub at `endpoint` for a list, of at most `max_bytes`, and select files from it: by default, of a model.

    Raises HubError for an answer that is no such list, or that names no model which can be imported.
    """
    url = f"{endpoint}/api/models/{repository.repo}/revision/{quote(repository.revision, safe='')}?blobs=true"
    listing = _parse(retry(lambda: _read(client, url, repository.repo, max_bytes), reporter), repository.repo)
    by_name = {file.name: file for file in listing.files}
    base = f"{endpoint}/{repository.repo}/resolve/{listing.commit}"
    selected = (
        select(by_name) if select else select_files(by_name, repository, describe_remote_code(listing.config or {}))
    )
    files = [_to_remote_file(base, by_name[name]) for name in selected]
    licence = (listing.card or {}).get("license")
    plain = isinstance(licence, str) and re.fullmatch(r"[\w. -]{1,60}", licence, re.ASCII)
    return ModelFiles(listing.commit, files, licence if plain else None)


def _read(client: httpx2.Client, url: str, name: str, max_bytes: int) -> bytes:
    with stream_get(client, url, name) as response:
        content, deadline = bytearray(), time.monotonic() + LISTING_TIMEOUT_S
        for piece in response.iter_raw():
            content += piece
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{response.url.host} did not list the files of {name} within {LISTING_TIMEOUT_S:g} s"
                )
            if len(content) > max_bytes:
                raise HubError(f"{response.url.host} lists more files of {name} than a model has")
        return bytes(content)


def _parse(content: bytes, name: str) -> _Listing:
    try:
        return _Listing.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the answer"
        raise HubError(f"the hub's list of the files of {name} is not understood: {where}: {first['msg']}") from None


def _to_remote_file(base: str, file: _File) -> RemoteFile:
    sha256 = file.lfs.sha256 if file.lfs else None
    return RemoteFile(f"{base}/{quote(file.name)}", file.name, file.size, sha256, None if file.lfs else file.git_sha1)
