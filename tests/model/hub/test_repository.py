"""What of a repository is fetched, and what a hostile list of files can do: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.hub.download import download
from model.hub.errors import HubError
from model.hub.http import create_client
from model.hub.layouts import select_files
from model.hub.names import Repository, published_model
from model.hub.repository import MAX_LISTING_BYTES, ModelFiles, list_model_files
from model.hub.settings import HubSettings
from tests.model.hub.hub_server import COMMIT, Hub, describe
from tests.model.hub.recorder import Recorder

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 20_000, "tokenizer.json": b"{}", "README.md": b"#"}


def ask(hub: Hub, revision: str = "main", max_bytes: int = MAX_LISTING_BYTES) -> ModelFiles:
    with create_client() as client:
        return list_model_files(client, hub.url, Repository("org/name", revision), Recorder(), max_bytes)


def names(found: ModelFiles) -> list[str]:
    return sorted(remote.name for remote in found.files)


def test_what_is_published_of_each_file(hub: Hub) -> None:
    hub.repos["org/name"] = FILES
    found = ask(hub)
    assert (found.commit, found.licence) == (COMMIT, "mit")
    by_name = {remote.name: remote for remote in found.files}
    assert sorted(by_name) == ["config.json", "model.safetensors", "tokenizer.json"]
    weights = by_name["model.safetensors"]
    assert weights.url == f"{hub.url}/org/name/resolve/{COMMIT}/model.safetensors"
    assert (weights.size, weights.sha256) == (20_000, describe("", FILES["model.safetensors"])["lfs"]["sha256"])
    assert by_name["config.json"].git_sha1 == describe("", b"{}")["blobId"]


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        (["config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack"], ["model.safetensors"]),
        (["config.json", "pytorch_model.bin"], ["pytorch_model.bin"]),
        (["config.json", "open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
          "model.safetensors"], ["open_clip_model.safetensors"]),
        (["config.json", "open_clip_config.json", "open_clip_pytorch_model.bin", "model.safetensors"],
         ["open_clip_pytorch_model.bin"]),
        (["config.json", "open_clip_config.json", "model.safetensors"], ["model.safetensors"]),
        (["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
          "model-00002-of-00002.safetensors", "model-1-of-2.safetensors", "x/model-00001-of-00002.safetensors"],
         ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
    ],
)  # fmt: skip
def test_weights_are_fetched_in_one_format(there: list[str], chosen: list[str]) -> None:
    config, *rest = select_files(there, Repository("org/name"))
    assert rest == chosen
    assert config.startswith("open_clip" if chosen[0].startswith("open_clip") else "config")


@pytest.mark.parametrize("there", [[], ["README.md"], ["config.json"], ["model.safetensors"], ["config.json", "w.npz"]])
def test_no_model_in_it(there: list[str]) -> None:
    with pytest.raises(HubError, match=r"org/name holds no model.*config\.json with"):
        select_files(there, Repository("org/name"))


def test_names_that_lead_out_of_the_folder_are_not_asked_for(
    hub: Hub, settings: HubSettings, tmp_path: Path, reporter: Recorder
) -> None:
    hub.repos["org/name"] = FILES
    escapes = ["../escaped.json", "/etc/config.json", "a/config.json", "..\\tokenizer.json", "vocab.json/../../x", "\0"]
    listed = [describe(name, content) for name, content in FILES.items()]
    hub.listing = {"siblings": [*listed, *(describe(name, b"{}") for name in escapes)]}
    downloaded = download(published_model("org/name"), settings, reporter)
    assert sorted(path.name for path in downloaded.checkpoint.iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    here = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert here == {"home"}
    assert not hub.asked("escaped")


@pytest.mark.parametrize(
    ("listing", "field"),
    [
        ({"sha": "../../x"}, "sha"),
        ({"sha": None}, "sha"),
        ({"siblings": "all"}, "siblings"),
        ({"siblings": [{"rfilename": "config.json", "size": -1}]}, "siblings.0.size"),
        ({"siblings": [{"rfilename": "config.json", "lfs": {"sha256": "none"}}]}, r"siblings.0.lfs.sha256"),
    ],
)
def test_a_list_that_is_none(hub: Hub, listing: dict[str, Any], field: str) -> None:
    hub.repos["org/name"] = FILES
    hub.listing = listing
    with pytest.raises(HubError, match=f"org/name is not understood: {field}"):
        ask(hub)


def test_a_list_without_end(hub: Hub) -> None:
    hub.repos["org/name"] = FILES
    hub.listing = {"more": "x" * 20_000}
    with pytest.raises(HubError, match="more files of org/name"):
        ask(hub, max_bytes=10_000)


def test_a_page_instead_of_a_list(hub: Hub) -> None:
    hub.statuses = [200]
    with pytest.raises(HubError, match="not understood"):
        ask(hub)


@pytest.mark.parametrize("licence", [None, ["mit"], "\x1b[2Jmit", "m" * 100])
def test_a_licence_is_shown_only_where_it_is_plain(hub: Hub, licence: object) -> None:
    hub.repos["org/name"] = FILES
    hub.listing = {"cardData": {"license": licence}}
    assert ask(hub).licence is None


def test_a_revision_with_slashes_is_one_part_of_the_address(hub: Hub) -> None:
    hub.repos["org/name"] = FILES
    with pytest.raises(HubError, match="Check the name and the revision"):
        ask(hub, "refs/pr/1")
    assert hub.requests[0].path == "/api/models/org/name/revision/refs%2Fpr%2F1?blobs=true"


def test_files_without_a_published_hash_are_told(hub: Hub, settings: HubSettings, reporter: Recorder) -> None:
    hub.repos["org/name"] = FILES
    hub.listing = {"siblings": [{"rfilename": name} for name in FILES]}
    downloaded = download(published_model("org/name"), settings, reporter)
    assert (downloaded.checkpoint / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert sum("no hash is published" in note for note in reporter.notes) == 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SIGHTWORD_OFFLINE", "maybe"),
        ("HF_ENDPOINT", "hub"),
        ("HF_ENDPOINT", "http://[bad"),
        ("HF_ENDPOINT", "https://"),
        ("SIGHTWORD_OPENAI_MIRROR", "x"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(HubError, match=variable):
        HubSettings.read()


def test_home_is_in_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SIGHTWORD_HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert HubSettings.read().home == Path.home() / ".cache" / "sightword"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert HubSettings.read().home == tmp_path / "sightword"
