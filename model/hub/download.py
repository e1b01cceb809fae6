"""Download a published model: from the hub, from OpenAI or a mirror, or from a folder on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from model.hub.errors import HubError, RefusedError
from model.hub.file_download import RemoteFile, download_file, sha256
from model.hub.folders import download_folder
from model.hub.http import ProgressReporter, create_client
from model.hub.layouts import MARKS, select_files
from model.hub.names import Archive, PublishedModel, Repository
from model.hub.repository import list_model_files
from model.hub.settings import HubSettings, without_credentials

MAX_FILES = 100_000  # of a folder that are looked at
OPENAI = "https://openaipublic.azureedge.net/clip/models"


@dataclass(frozen=True)
class Downloaded:
    """A checkpoint on this machine; `origin` (name, address, revision, SHA-256 by file) goes into the manifest."""

    checkpoint: Path
    origin: dict[str, Any]


def download(model: PublishedModel, settings: HubSettings, reporter: ProgressReporter) -> Downloaded:
    """Download the model's files, or find them in the offline folder if one is set. Raises HubError."""
    if settings.offline_folder is not None:
        return _from_folder(model, settings.offline_folder)
    if settings.offline:
        raise HubError(
            f"{model.name} is not in {settings.home}, and SIGHTWORD_OFFLINE or HF_HUB_OFFLINE forbids to fetch it: "
            "copy its bundle there from a machine that may, or name a folder that holds its files with --from"
        )
    if isinstance(model.source, Archive):
        return _download_archive(model, model.source, settings, reporter)
    return _download_repository(model, model.source, settings, reporter)


def _download_archive(
    model: PublishedModel, archive: Archive, settings: HubSettings, reporter: ProgressReporter
) -> Downloaded:
    url = archive.url
    if settings.openai_mirror is not None:
        url = url.replace(OPENAI, settings.openai_mirror, 1)
    reporter.note(f"{model.name}: {without_credentials(url)}; its licence and model card are in github.com/openai/CLIP")
    try:
        with create_client() as client:
            remote = RemoteFile(url, archive.file, sha256=archive.sha256)
            file = download_file(client, remote, download_folder(model, settings), reporter)
    except RefusedError as error:
        raise RefusedError(f"{error}. The same weights are on the hub as {archive.repo}") from error
    return Downloaded(file, _origin(model, archive.url, None, {archive.file: archive.sha256}))


def _download_repository(
    model: PublishedModel, repository: Repository, settings: HubSettings, reporter: ProgressReporter
) -> Downloaded:
    token = settings.token.get_secret_value() if settings.token else None
    with create_client(token) as client:
        found = list_model_files(client, settings.endpoint, repository, reporter)
        page = f"{without_credentials(settings.endpoint)}/{repository.repo}"
        reporter.note(f"{model.name}: {page}, {found.licence or 'no licence named: see the page'}")
        folder = download_folder(model, settings) / found.commit
        hashes = {}
        for remote in found.files:
            file = download_file(client, remote, folder, reporter)
            if remote.sha256 is None and remote.git_sha1 is None:
                reporter.note(f"{remote.name}: no hash is published, so that only its length could be checked")
            hashes[remote.name] = remote.sha256 or sha256(file)
    return Downloaded(folder, _origin(model, page, found.commit, hashes))


def _from_folder(model: PublishedModel, folder: Path) -> Downloaded:
    if isinstance(model.source, Archive):
        file = folder / model.source.file
        if not file.is_file():
            raise HubError(f"{folder} holds no {model.source.file}")
        if sha256(file) != model.source.sha256:
            raise HubError(f"{file} does not have the published SHA-256: fetch it again")
        return Downloaded(file, _origin(model, model.source.url, None, {file.name: model.source.sha256}))
    candidates = [folder / model.source.repo, folder / model.id, folder]
    marks = [*MARKS, *([model.source.weights] if model.source.weights else [])]
    source = next((each for each in candidates if any((each / mark).is_file() for mark in marks)), None)
    if source is None:
        raise HubError(f"neither {folder} nor its folder {model.source.repo} holds the files of {model.name}")
    names = select_files(list(_names(source)), replace(model.source, repo=str(source)))
    hashes = {name: sha256(source / name) for name in names}
    return Downloaded(source, _origin(model, model.source.repo, None, hashes))


def _names(folder: Path) -> Iterator[str]:
    """Of the files in a folder and in its folders, as a repository names them."""
    for file in islice(chain(folder.glob("*"), folder.glob("*/*")), MAX_FILES):
        if file.is_file():
            yield file.relative_to(folder).as_posix()


def _origin(model: PublishedModel, address: str, revision: str | None, hashes: dict[str, str]) -> dict[str, Any]:
    return {"published": {"name": model.name, "from": address, "revision": revision, "sha256": hashes}}
