"""The files of a model, to the folder that is imported: permission, damage, mirrors, and no network at all."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest

from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import read_checkpoint
from model.hub.download import Downloaded, download
from model.hub.errors import HubError
from model.hub.names import Archive, known_models, published_model
from model.hub.settings import HubSettings
from tests.model.hub.hub_server import Hub
from tests.model.hub.published_models import NAME
from tests.model.hub.recorder import Recorder

WEIGHTS = "model.safetensors"


def pull(name: str, reporter: Recorder) -> Downloaded:
    return download(published_model(name), HubSettings.read(), reporter)


def test_a_model_with_terms_to_accept(model_hub: Hub, monkeypatch: pytest.MonkeyPatch, reporter: Recorder) -> None:
    model_hub.token = "hf_of_a_person"
    for token in ("", "hf_of_another"):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(HubError, match="set HF_TOKEN") as refused:
            pull(NAME, reporter)
        assert "hf_of" not in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_person")
    assert (pull(NAME, reporter).checkpoint / WEIGHTS).is_file()
    assert "hf_of" not in str(reporter.notes)
    assert model_hub.asked("/cdn/")
    assert not any("authorization" in request.headers for request in model_hub.asked("/cdn/"))


def test_a_model_that_is_not_there(hub: Hub, reporter: Recorder) -> None:
    with pytest.raises(HubError, match="an-org/nobody"):
        pull("an-org/nobody", reporter)


def test_a_model_of_its_own_code_is_refused_before_its_weights_are_fetched(model_hub: Hub, reporter: Recorder) -> None:
    places = {"AutoModel": "modeling_x.XModel"}
    model_hub.listing = {"config": {"architectures": ["XModel"], "model_type": "x", "auto_map": places}}
    with pytest.raises(HubError, match=f"{NAME} cannot be imported: XModel .*its code is 'modeling_x.XModel'"):
        pull(NAME, reporter)
    model_hub.listing["config"]["architectures"] = ["CLIPModel"]  # which transformers has
    assert len(model_hub.requests) == 1
    assert (pull(NAME, reporter).checkpoint / WEIGHTS).is_file()


def test_a_file_that_is_listed_and_not_there(model_hub: Hub, reporter: Recorder) -> None:
    del (files := model_hub.repos[NAME])["config.json"]
    model_hub.listing = {"siblings": [{"rfilename": name} for name in [*files, "config.json"]]}
    with pytest.raises(HubError, match=r"404 for config\.json"):
        pull(NAME, reporter)


def test_corrupt_weights_are_refused_and_the_next_pull_is_good(
    model_hub: Hub, tmp_path: Path, reporter: Recorder
) -> None:
    content = model_hub.repos[NAME][WEIGHTS]
    model_hub.served_instead[WEIGHTS] = content[:-1] + b"\xff"
    with pytest.raises(HubError, match=f"{WEIGHTS} from 127.0.0.1 does not have the published SHA-256"):
        pull(NAME, reporter)
    assert not list(tmp_path.rglob(f"{WEIGHTS}*"))
    model_hub.served_instead = {}
    assert (pull(NAME, reporter).checkpoint / WEIGHTS).read_bytes() == content


def test_offline_nothing_is_asked(model_hub: Hub, monkeypatch: pytest.MonkeyPatch, reporter: Recorder) -> None:
    for variable in ("SIGHTWORD_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(variable, "1")
        with pytest.raises(HubError, match="--from"):
            pull(NAME, reporter)
        monkeypatch.delenv(variable)
    assert not model_hub.requests


@pytest.mark.parametrize("below", ["", NAME, NAME.replace("/", "--")])
def test_an_offline_folder(
    model_hub: Hub, monkeypatch: pytest.MonkeyPatch, reporter: Recorder, checkpoint: Path, tmp_path: Path, below: str
) -> None:
    shutil.copytree(checkpoint, tmp_path / "mirror" / below)
    monkeypatch.setenv("SIGHTWORD_OFFLINE_FOLDER", str(tmp_path / "mirror"))
    downloaded = pull(NAME, reporter)
    assert downloaded.checkpoint == tmp_path / "mirror" / below
    assert downloaded.origin["published"]["sha256"].keys() >= {WEIGHTS, "config.json"}
    assert not model_hub.requests


def test_an_offline_folder_without_the_model(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, reporter: Recorder, tmp_path: Path
) -> None:
    monkeypatch.setenv("SIGHTWORD_OFFLINE_FOLDER", str(tmp_path))
    with pytest.raises(HubError, match=NAME):
        pull(NAME, reporter)
    with pytest.raises(HubError, match=r"holds no ViT-B-32\.pt"):
        pull("ViT-B/32", reporter)
    (tmp_path / "ViT-B-32.pt").write_bytes(b"not OpenAI's")
    with pytest.raises(HubError, match=r"ViT-B-32\.pt does not have the published SHA-256"):
        pull("ViT-B/32", reporter)
    assert not hub.requests


def test_a_mirror_of_openais_files_is_asked_and_not_trusted(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, reporter: Recorder
) -> None:
    archive = known_models()["ViT-B-32"].source
    assert isinstance(archive, Archive)
    path = f"/clip/{archive.sha256}/ViT-B-32.pt"
    monkeypatch.setenv("SIGHTWORD_OPENAI_MIRROR", f"{hub.url}/clip/")
    with pytest.raises(HubError, match=r"404 .*timm/vit_base_patch32_clip_224\.openai"):
        pull("ViT-B/32", reporter)
    hub.files[path] = b"something else"
    with pytest.raises(HubError, match="does not have the published SHA-256"):
        pull("ViT-B/32", reporter)
    assert [request.path for request in hub.requests] == [path, path]


def test_credentials_of_a_mirror_are_sent_and_neither_shown_nor_kept(
    model_hub: Hub, monkeypatch: pytest.MonkeyPatch, reporter: Recorder
) -> None:
    address = model_hub.url.replace("http://", "http://person:SECRET@")
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("SIGHTWORD_OPENAI_MIRROR", f"{address}/clip")
    downloaded = pull(NAME, reporter)
    assert downloaded.origin["published"]["from"] == f"{model_hub.url}/{NAME}"
    with pytest.raises(HubError, match="404") as refused:
        pull("ViT-B/32", reporter)
    asked = [request for request in model_hub.requests if not request.path.startswith("/cdn/")]
    basic = f"Basic {base64.b64encode(b'person:SECRET').decode()}"
    assert {request.headers["authorization"] for request in asked} == {basic}
    assert not any("authorization" in request.headers for request in model_hub.asked("/cdn/"))
    assert "SECRET" not in f"{downloaded.origin} {reporter.notes} {refused.value}"


@pytest.mark.parametrize("token", ["hf_SE CRET", "hf_SE\nCRET", "hf_SECRET\u00e9", "\u200bhf_SECRET"])
def test_a_token_that_is_none(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=r"^HF_TOKEN: ") as refused:
        HubSettings.read()
    assert "hf_" not in str(refused.value)


@pytest.mark.parametrize(("token", "read"), [("hf_SECRET\n", "hf_SECRET"), (" \n", None)])
def test_white_space_around_a_token(monkeypatch: pytest.MonkeyPatch, token: str, read: str | None) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    kept = HubSettings.read().token
    assert (kept.get_secret_value() if kept else None) == read


@pytest.mark.parametrize("address", ["https://me:SEC/RET@host", "https://me:SECRET@ho\u2100st", "https://:SECRET@"])
def test_an_address_that_is_none_is_not_repeated(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubError, match=r"^HF_ENDPOINT: should be an address") as refused:
        HubSettings.read()
    assert "SEC" not in str(refused.value)


def test_a_clip_of_sentence_transformers_comes_with_what_surrounds_it(
    hub: Hub, checkpoint: Path, tmp_path: Path, reporter: Recorder
) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(checkpoint, folder / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    hub.add("sentence-transformers/clip-tiny", folder)
    downloaded = pull("sentence-transformers/clip-tiny", reporter)
    read = read_checkpoint(downloaded.checkpoint, Options())
    assert read.source["format"] == "sentence-transformers folder"
    assert "cosines are the same" in read.warnings[-1]
