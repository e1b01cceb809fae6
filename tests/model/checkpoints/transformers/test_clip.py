"""CLIPModel folders: imported and written back, with the outputs that transformers itself gives."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer, CLIPModel, CLIPTokenizer
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle
from model.checkpoints import transformers
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint
from model.checkpoints.networks import to_network
from model.config import ModelConfig, Preprocessing, ViTConfig
from model.export.bundle import export_bundle
from model.images.preprocessing import preprocess
from model.runtime.engine import Engine
from model.tokenizers.clip import Tokenizer
from tests.model.checkpoints.transformers.clip_models import (
    TEXTS,
    age,
    answers,
    assert_close,
    clip_tokenizer,
    engine_answers,
    network_answers,
    random_model,
    random_pixels,
    save,
    small_text,
    small_vision,
)
from tests.model.conftest import TEXT, TINY_RESNET, random_network


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIPModel, Path, Bundle]:
    """A model whose towers share no size, its folder as transformers saves it, and the bundle made from that."""
    text = small_text(intermediate_size=96, num_attention_heads=4, num_hidden_layers=3, layer_norm_eps=1e-3)
    model = random_model(text, small_vision(intermediate_size=100, layer_norm_eps=1e-6))
    folder = save(model, tmp_path_factory.mktemp("small") / "my CLIP", clip_tokenizer(1024))
    bundle, warnings = import_checkpoint(folder, folder.with_name("bundle"), Options())
    assert warnings == []
    return model, folder, bundle


@pytest.fixture(scope="module")
def rewritten(small: tuple[CLIPModel, Path, Bundle]) -> Path:
    """The bundle written for transformers again."""
    folder = small[2].path.with_name("again")
    transformers.write_folder(small[2], folder)
    return folder


def test_a_bundle_answers_as_the_folder_it_was_made_from(small: tuple[CLIPModel, Path, Bundle]):
    model, folder, bundle = small
    pixels = random_pixels(48)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert_close(engine_answers(bundle, pixels), answers(model, pixels, TEXTS, tokenizer))
    assert bundle.id == "my-CLIP"
    assert bundle.manifest.source == {
        "format": "transformers folder",
        "weights": "model.safetensors",
        "activation_from": "config.json",
        "tokenizer_from": "tokenizer.json",
        "preprocessing_from": "processor_config.json",
        "warnings": [],
    }


def test_a_picture_is_prepared_as_the_processor_does(small: tuple[CLIPModel, Path, Bundle], cat: Image.Image):
    model, folder, bundle = small
    inputs = AutoProcessor.from_pretrained(folder)(text=["a cat"], images=cat, return_tensors="pt", padding=True)
    with torch.no_grad():
        theirs = model(**inputs).image_embeds.numpy()
    ours = Engine(bundle, provider="cpu").embed_images(preprocess(cat, bundle.preprocessing)[None])
    assert np.abs(ours - theirs).max() < 1e-4


def test_an_old_folder_of_a_full_sized_grid(tmp_path: Path):
    # 224 pixels, CLIP's whole vocabulary, the end-of-text id of before 2023, weights in half precision.
    text = small_text(vocab_size=49408, bos_token_id=0, eos_token_id=2, max_position_embeddings=77)
    model = random_model(text, small_vision(image_size=224, patch_size=32))
    tokenizer = clip_tokenizer(49408)
    folder = age(save(model.half(), tmp_path / "old", tokenizer), half=True)
    (folder / "tokenizer.json").unlink()
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert warnings == ["old has no tokenizer: CLIP's is taken, and with another one every text is wrong"]
    assert bundle.manifest.source["tokenizer_from"] == "CLIP's, the folder has none"
    assert bundle.manifest.source["weights"] == "pytorch_model.bin"
    pixels = random_pixels(224)
    assert_close(engine_answers(bundle, pixels), answers(model.float(), pixels, TEXTS, tokenizer))


@pytest.mark.parametrize(
    ("text", "vision"),
    [
        ({"hidden_act": "gelu"}, {"hidden_act": "gelu", "patch_size": 8}),
        ({"hidden_act": "gelu_new"}, {"hidden_act": "gelu_pytorch_tanh", "num_attention_heads": 6}),
        ({"hidden_act": "quick_gelu"}, {"hidden_act": "gelu", "hidden_size": 72, "num_hidden_layers": 1}),
        ({"eos_token_id": 2}, {"image_size": 56, "patch_size": 14}),
    ],
)
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_towers_of_every_kind(tmp_path: Path, text: dict[str, Any], vision: dict[str, Any], old: bool):
    model = random_model(small_text(**text), small_vision(**vision))
    folder = save(model, tmp_path, clip_tokenizer(1024))
    if old:
        age(folder)
        # The older of the two configurations counts, and its hidden_act is the default of transformers.
        model = CLIPModel.from_pretrained(folder, local_files_only=True)
    checkpoint = transformers.read_folder(folder, Options())
    network = to_network(checkpoint)
    pixels = random_pixels(vision.get("image_size", 48))
    assert_close(
        network_answers(network, checkpoint.tokenizer, pixels), answers(model, pixels, TEXTS, clip_tokenizer(1024))
    )


def test_shards_and_a_folder_of_nothing_but_weights(small: tuple[CLIPModel, Path, Bundle], tmp_path: Path):
    small[0].save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json, nor vocab\.json and merges\.txt"):
        transformers.read_folder(tmp_path, Options())
    clip_tokenizer(1024).save_pretrained(tmp_path)
    checkpoint = transformers.read_folder(tmp_path, Options())
    [warning] = checkpoint.warnings
    assert "no preprocessor_config.json" in warning
    whole = transformers.read_folder(small[1], Options())
    assert checkpoint.preprocessing == whole.preprocessing
    assert all(torch.equal(tensor, checkpoint.state[name]) for name, tensor in whole.state.items())


def test_what_was_imported_is_written_back_unchanged(small: tuple[CLIPModel, Path, Bundle], rewritten: Path):
    again = CLIPModel.from_pretrained(rewritten)
    for name, tensor in small[0].state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    processor = AutoProcessor.from_pretrained(rewritten)
    assert processor.image_processor.to_dict() == AutoProcessor.from_pretrained(small[1]).image_processor.to_dict()
    pixels = random_pixels(48)
    assert_close(answers(again, pixels, TEXTS, processor.tokenizer), engine_answers(small[2], pixels))
    card = (rewritten / "README.md").read_text()
    assert small[2].digest in card
    assert "turns pictures upright" in card
    assert {file.stat().st_mode & 0o777 for file in rewritten.iterdir()} == {0o644}


def test_both_kinds_of_tokenizer_files_that_are_written_give_our_ids(
    small: tuple[CLIPModel, Path, Bundle], rewritten: Path, tmp_path: Path
):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((rewritten / name).read_bytes())
    ours = small[2].tokenizer()
    for tokenizer in (AutoTokenizer.from_pretrained(rewritten), CLIPTokenizer.from_pretrained(tmp_path)):
        assert tokenizer(TEXTS)["input_ids"] == ours.encode(TEXTS)
    assert AutoTokenizer.from_pretrained(rewritten).model_max_length == 40
    assert transformers.read_folder(rewritten, Options()).tokenizer.as_json == ours.as_json


def test_a_bundle_of_ours_answers_the_same_in_transformers(tmp_path: Path):
    config = ModelConfig(
        name="ours",
        embed_dim=32,
        activation="gelu_tanh",
        image=ViTConfig(image_size=48, patch_size=16, width=64, layers=2, heads=2, mlp_width=80),
        text=TEXT,
    )
    network = random_network(config)
    tokenizer, preprocessing = Tokenizer.clip(1024), Preprocessing(size=48, resize_mode="squash")
    bundle = export_bundle(
        network, tmp_path / "b", tokenizer=tokenizer, preprocessing=preprocessing, weights_dtype="float16"
    )
    transformers.write_folder(bundle, tmp_path / "theirs")
    model = CLIPModel.from_pretrained(tmp_path / "theirs")
    processor = AutoProcessor.from_pretrained(tmp_path / "theirs")
    pixels = random_pixels(48)
    assert_close(answers(model, pixels, TEXTS, processor.tokenizer), engine_answers(bundle, pixels))
    assert model.dtype == torch.float32
    assert model.config.text_config.eos_token_id == 1023
    assert processor.image_processor.size == {"height": 48, "width": 48}


def test_a_resnet_is_refused_and_leaves_nothing(small: tuple[CLIPModel, Path, Bundle], tmp_path: Path):
    manifest = small[2].manifest.model_copy(update={"config": TINY_RESNET})
    with pytest.raises(CheckpointError, match=r"kind resnet.*--format openclip"):
        transformers.write_folder(replace(small[2], manifest=manifest), tmp_path / "theirs")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_left_alone(small: tuple[CLIPModel, Path, Bundle], tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        transformers.write_folder(small[2], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_write_that_fails_leaves_nothing(
    small: tuple[CLIPModel, Path, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("model.export.tensors.save_file", full)
    with pytest.raises(CheckpointError, match="theirs cannot be written: no space"):
        transformers.write_folder(small[2], tmp_path / "theirs")
    assert list(tmp_path.iterdir()) == []


def test_a_scale_of_one_number_in_a_list(small: tuple[CLIPModel, Path, Bundle], tmp_path: Path):
    folder = save(small[0], tmp_path, clip_tokenizer(1024))
    state = load_file(folder / "model.safetensors")
    save_file({**state, "logit_scale": state["logit_scale"].reshape(1)}, folder / "model.safetensors")
    assert to_network(transformers.read_folder(folder, Options())).logit_scale.item() == pytest.approx(3.3)


def test_the_commands_there_and_back(small: tuple[CLIPModel, Path, Bundle], tmp_path: Path):
    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "model", *map(str, words)], capture_output=True, text=True)

    config = json.loads((small[1] / "config.json").read_text())
    source = tmp_path / "source"
    source.mkdir()
    for file in small[1].iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    del config["vision_config"]["hidden_act"]
    (source / "config.json").write_text(json.dumps(config))
    words = ["import", str(source), "--to", str(tmp_path / "bundle"), "--name", "mine"]
    imported = CliRunner().invoke(app, words)
    assert imported.exit_code == 0, imported.output
    assert "warning: config.json does not say hidden_act for both towers" in imported.stderr
    done = run("export", tmp_path / "bundle", "--to", tmp_path / "theirs", "--format", "huggingface")
    assert done.returncode == 0, done.stderr
    again = CLIPModel.from_pretrained(tmp_path / "theirs").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in small[0].state_dict().items())


def test_a_folder_whose_configuration_is_broken_makes_no_bundle(tmp_path: Path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json holds a list"):
        import_checkpoint(tmp_path, tmp_path / "bundle", Options())
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
