"""The files of a published model, from the network or from a folder: ready to be imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.hub.download import Remote, Watcher, connect, fetch, sha256
from model.hub.errors import HubError, RefusedError
from model.hub.names import Archive, Published, Repository
from model.hub.repository import choose, look_up
from model.hub.settings import HubSettings, without_credentials
from model.hub.store import download_folder

OPENAI = "https://openaipublic.azureedge.net/clip/models"


@dataclass(frozen=True)
class Arrived:
    """A checkpoint on this machine, and what to keep in the manifest of where it came from."""

    checkpoint: Path
    origin: dict[str, Any]


def bring(model: Published, settings: HubSettings, watcher: Watcher) -> Arrived:
    """The model's files: from the offline folder where there is one, else downloaded. Raises HubError."""
    if settings.offline_folder is not None:
        return _from_folder(model, settings.offline_folder)
    if settings.offline:
        raise HubError(
            f"{model.name} is not in {settings.home}, and SIGHTWORD_OFFLINE or HF_HUB_OFFLINE forbids to fetch it: "
            "copy its bundle there from a machine that may, or name a folder that holds its files with --from"
        )
    if isinstance(model.source, Archive):
        return _from_openai(model, model.source, settings, watcher)
    return _from_hub(model, model.source, settings, watcher)


def _from_openai(model: Published, archive: Archive, settings: HubSettings, watcher: Watcher) -> Arrived:
    url = archive.url
    if settings.openai_mirror is not None:
        url = url.replace(OPENAI, settings.openai_mirror, 1)
    watcher.note(f"{model.name}: {without_credentials(url)}; its licence and model card are in github.com/openai/CLIP")
    try:
        with connect() as client:
            remote = Remote(url, archive.file, sha256=archive.sha256)
            file = fetch(client, remote, download_folder(model, settings), watcher)
    except RefusedError as error:
        raise RefusedError(f"{error}. The same weights are on the hub as {archive.repo}") from error
    return Arrived(file, _origin(model, archive.url, None, {archive.file: archive.sha256}))


def _from_hub(model: Published, repository: Repository, settings: HubSettings, watcher: Watcher) -> Arrived:
    token = settings.token.get_secret_value() if settings.token else None
    with connect(token) as client:
        found = look_up(client, settings.endpoint, repository, watcher)
        page = f"{without_credentials(settings.endpoint)}/{repository.repo}"
        watcher.note(f"{model.name}: {page}, {found.licence or 'no licence named: see the page'}")
        folder = download_folder(model, settings) / found.commit
        hashes = {}
        for remote in found.files:
            file = fetch(client, remote, folder, watcher)
            if remote.sha256 is None and remote.git_sha1 is None:
                watcher.note(f"{remote.name}: no hash is published, so that only its length could be checked")
            hashes[remote.name] = remote.sha256 or sha256(file)
    return Arrived(folder, _origin(model, page, found.commit, hashes))


def _from_folder(model: Published, folder: Path) -> Arrived:
    if isinstance(model.source, Archive):
        file = folder / model.source.file
        if not file.is_file():
            raise HubError(f"{folder} holds no {model.source.file}")
        if sha256(file) != model.source.sha256:
            raise HubError(f"{file} does not have the published SHA-256: fetch it again")
        return Arrived(file, _origin(model, model.source.url, None, {file.name: model.source.sha256}))
    places = [folder / model.source.repo, folder / model.id, folder]
    place = next((place for place in places if any(place.glob("*config.json"))), None)
    if place is None:
        raise HubError(f"neither {folder} nor its folder {model.source.repo} holds the files of {model.name}")
    names = choose([file.name for file in place.iterdir()], str(place))
    hashes = {name: sha256(place / name) for name in names}
    return Arrived(place, _origin(model, model.source.repo, None, hashes))


def _origin(model: Published, where: str, revision: str | None, hashes: dict[str, str]) -> dict[str, Any]:
    return {"published": {"name": model.name, "from": where, "revision": revision, "sha256": hashes}}
