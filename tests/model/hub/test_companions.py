"""What open_clip takes from elsewhere for a model: fetched beside it, and nothing that a hostile name could reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.openclip.listed import write_listed_config
from model.export.tensors import write_tensors
from model.hub import names
from model.hub.companions import Companion, companions, download_companions
from model.hub.download import Downloaded, download
from model.hub.errors import HubError
from model.hub.folders import find_bundle
from model.hub.names import PublishedModel, Repository, published_model
from model.hub.settings import HubSettings
from tests.model.checkpoints.openclip import models as openclip_models
from tests.model.hub.hub_server import COMMIT, Hub
from tests.model.hub.recorder import Recorder

BERT = {"config.json": b'{"model_type": "xlm-roberta"}', "tokenizer.json": b"{}", "model.safetensors": b"w" * 100}


def folder_of(tmp_path: Path, **text_cfg: object) -> Path:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"text_cfg": text_cfg}}))
    return tmp_path


def fetched(folder: Path, settings: HubSettings, reporter: Recorder) -> dict[str, Any]:
    origin: dict[str, Any] = {"published": {"name": "it"}}
    download_companions(Downloaded(folder, origin), settings, reporter)
    return origin["published"]


def test_tokenizer_and_configuration_of_a_text_tower(
    hub: Hub, tmp_path: Path, settings: HubSettings, reporter: Recorder
) -> None:
    hub.repos["FacebookAI/xlm-roberta-base"] = BERT
    folder = folder_of(tmp_path, hf_model_name="xlm-roberta-base", hf_tokenizer_name="xlm-roberta-base")
    published = fetched(folder, settings, reporter)
    assert published["companions"] == {"xlm-roberta-base": COMMIT}
    assert (folder / "xlm-roberta-base" / "config.json").read_bytes() == BERT["config.json"]
    assert (folder / "tokenizer.json").read_bytes() == BERT["tokenizer.json"]
    assert not hub.asked("model.safetensors")
    assert any("the tokenizer and the configuration of the text tower" in note for note in reporter.notes)
    before = len(hub.requests)
    assert "companions" not in fetched(folder, settings, reporter)  # all of it is here
    assert len(hub.requests) == before


def test_only_what_the_folder_lacks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, hf_model_name="a/b", hf_tokenizer_name="c/d")
    assert companions(folder) == [Companion("a/b", text_config=True), Companion("c/d", tokenizer=True)]
    (folder / "spiece.model").write_bytes(b"")
    assert companions(folder) == [Companion("a/b", text_config=True)]
    assert companions(folder_of(tmp_path, width=512)) == []
    assert companions(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    "name", ["../x", "a/../b", "/etc/passwd", "a/b/c", "a\nb", "", ".a", 3, ["a"], "a/b@main", "x" * 200]
)
@pytest.mark.parametrize("field", ["hf_model_name", "hf_tokenizer_name"])
def test_a_name_that_leads_elsewhere_is_asked_of_nobody(
    hub: Hub, tmp_path: Path, settings: HubSettings, reporter: Recorder, name: object, field: str
) -> None:
    folder = folder_of(tmp_path, **{field: name})
    if name:
        with pytest.raises(HubError, match=r"open_clip_config\.json names .* for its texts, which is no repository"):
            fetched(folder, settings, reporter)
    else:
        fetched(folder, settings, reporter)
    assert not hub.requests
    assert [path.name for path in tmp_path.iterdir()] == ["open_clip_config.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"model_cfg": []}', '{"model_cfg": {"text_cfg": "x"}}', "[" * 100_000])
def test_a_configuration_that_is_none_is_left_to_the_import(tmp_path: Path, content: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(content)
    assert companions(tmp_path) == []


def test_an_export_is_fetched_into_its_folders(hub: Hub, settings: HubSettings, reporter: Recorder) -> None:
    hub.repos["immich-app/XLM-Roberta-Large-Vit-B-16Plus"] = files = {
        "config.json": b"{}",
        "visual/preprocess_cfg.json": b"{}",
        "visual/model.onnx": b"v" * 20_000,
        "textual/model.onnx": b"t" * 20_001,
        "textual/tokenizer.json": b"{}",
    }
    model = published_model("XLM-Roberta-Large-Vit-B-16Plus")
    folder = download(model, settings, reporter).checkpoint
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(files)
    again = settings.model_copy(update={"offline_folder": folder})
    assert set(download(model, again, reporter).origin["published"]["sha256"]) == set(files)


def test_the_listed_configuration_is_open_clips(open_clip: Any, tmp_path: Path) -> None:
    said = write_listed_config(tmp_path, "nllb-clip-base-siglip", "mrl")
    assert open_clip.__version__ in said
    content = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert content["model_cfg"] == open_clip.get_model_config("nllb-clip-base-siglip")
    assert content["preprocess_cfg"] == {
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "squash",
    }  # fmt: skip
    assert companions(tmp_path) == [Companion("facebook/nllb-200-distilled-600M", tokenizer=True, text_config=True)]
    with pytest.raises(CheckpointError, match="has no ViT-B-32 with the tag nobody"):
        write_listed_config(tmp_path, "ViT-B-32", "nobody")


def test_a_model_whose_repository_holds_weights_alone_becomes_a_bundle(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_clip: Any
) -> None:
    theirs = openclip_models.build(open_clip, openclip_models.VIT)
    write_tensors(theirs.state_dict(), tmp_path / "weights")
    hub.repos["an-org/weights-alone"] = {"open_clip_model.safetensors": (tmp_path / "weights").read_bytes()}
    source = Repository("an-org/weights-alone", open_clip=("A-Model", "a_tag"))
    model = PublishedModel("A-Model:a_tag", source, note="a note", matryoshka_dimensions=(8,))
    monkeypatch.setattr(names, "known_models", lambda: {model.name: model})
    monkeypatch.setattr(open_clip, "get_model_config", lambda _: openclip_models.VIT)
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *_: {"mean": (0.5,) * 3, "std": (0.25,) * 3})
    outcome = CliRunner().invoke(app, ["pull", "a-model__a-tag"], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert "A-Model:a_tag: a note" in outcome.stderr
    assert f"open_clip_config.json is that of open_clip {open_clip.__version__}" in outcome.stderr
    folder = find_bundle("A-Model:a_tag")
    assert folder is not None
    bundle = Bundle.load(folder)
    assert bundle.id == "A-Model--a_tag"
    assert bundle.preprocessing.mean == (0.5, 0.5, 0.5)
    assert bundle.manifest.matryoshka_dimensions == (8, bundle.dimensions)
