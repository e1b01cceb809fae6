"""SiglipModel folders: imported and written back, with the outputs that transformers itself gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, SiglipModel, SiglipProcessor

from model.bundle import Bundle, write_manifest
from model.checkpoints import transformers
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint, resized, to_network
from model.config import SiglipTextConfig
from model.images.preprocessing import preprocess
from model.manifest import TOKENIZER, BundleError
from model.runtime.engine import Engine
from model.tokenizers.clip import Tokenizer
from tests.model.checkpoints.transformers.clip_models import Answers, assert_close, random_pixels
from tests.model.checkpoints.transformers.siglip_models import (
    TEXTS,
    answers,
    random_model,
    save,
    small_text,
    small_vision,
    token_ids,
)
from tests.model.sentences import changed


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiglipModel, SiglipProcessor, Path]:
    model, folder = random_model(small_text(), small_vision()), tmp_path_factory.mktemp("siglip")
    return model, save(model, folder), folder


@pytest.fixture(scope="module")
def bundle(first: tuple[SiglipModel, SiglipProcessor, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made, warnings = import_checkpoint(first[2], tmp_path_factory.mktemp("bundle"), Options(exact_pixels=True))
    assert not warnings
    return made


@pytest.fixture
def folder(first: tuple[SiglipModel, SiglipProcessor, Path], tmp_path: Path) -> Path:
    """A copy to be changed."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in first[2].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def engine_answers(bundle: Bundle, pixels: np.ndarray, texts: list[str]) -> Answers:
    engine, tokenizer = Engine(bundle, provider="cpu"), bundle.tokenizer()
    image = engine.embed_images(pixels)
    text = engine.embed_texts(tokenizer.pad([tokenizer.truncate(row) for row in tokenizer.encode(texts)]))
    return image, text, bundle.logit_scale * image @ text.T + bundle.logit_bias


def network_answers(folder: Path, pixels: np.ndarray, ids: torch.Tensor) -> Answers:
    network = to_network(transformers.read_folder(folder, Options()))
    with torch.no_grad():
        image, text = network((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5, ids)
        logits = network.logit_scale.exp() * image @ text.T + network.logit_bias
    return image.numpy(), text.numpy(), logits.numpy()


def test_the_engine_gives_the_outputs_of_transformers(
    first: tuple[SiglipModel, SiglipProcessor, Path], bundle: Bundle
) -> None:
    model, processor, _ = first
    pixels = random_pixels(50)
    assert_close(engine_answers(bundle, pixels, TEXTS), answers(model, pixels, token_ids(processor, TEXTS)))


def test_pictures_are_prepared_as_by_transformers(
    first: tuple[SiglipModel, SiglipProcessor, Path], bundle: Bundle, temple: Image.Image
) -> None:
    expected = first[1].image_processor(temple, return_tensors="np")["pixel_values"][0]
    ours = (preprocess(temple, bundle.preprocessing).transpose(2, 0, 1) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_siglip_2_gives_the_outputs_of_transformers(tmp_path: Path) -> None:
    text = small_text(hidden_size=64, projection_size=96, hidden_act="gelu", num_hidden_layers=3)
    vision = small_vision(hidden_size=96, intermediate_size=384, image_size=48, patch_size=16)
    model = random_model(text, vision)
    processor = save(model, tmp_path / "siglip2", second=True)
    made, warnings = import_checkpoint(tmp_path / "siglip2", tmp_path / "bundle", Options())
    assert not warnings
    assert isinstance(made.manifest.config.text, SiglipTextConfig)
    assert made.manifest.config.text.clean == "lower"
    pixels = random_pixels(48)
    ids = token_ids(processor, TEXTS)
    assert_close(engine_answers(made, pixels, TEXTS), answers(model, pixels, ids))
    transformers.write_folder(made, tmp_path / "out")
    again = AutoModel.from_pretrained(tmp_path / "out").eval()
    np.testing.assert_array_equal(answers(again, pixels, ids)[2], answers(model, pixels, ids)[2])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(TEXTS, padding="max_length", truncation=True)["input_ids"] == ids.tolist()


@pytest.mark.parametrize(
    ("text", "vision"),
    [
        ({"num_attention_heads": 1, "max_position_embeddings": 20}, {"image_size": 64, "patch_size": 8}),
        ({"hidden_act": "gelu"}, {"hidden_act": "gelu", "num_attention_heads": 1, "num_hidden_layers": 4}),
        ({"hidden_act": "quick_gelu", "layer_norm_eps": 1e-3}, {"image_size": 27, "layer_norm_eps": 1e-2}),
    ],
)
def test_towers_of_other_shapes_give_the_outputs_of_transformers(
    first: tuple[SiglipModel, SiglipProcessor, Path], folder: Path, text: dict[str, Any], vision: dict[str, Any]
) -> None:
    model = random_model(small_text(**text), small_vision(**vision))
    model.save_pretrained(folder)
    side = vision.get("image_size", 50)
    changed(folder / "processor_config.json", image_processor={"size": {"height": side, "width": side}})
    ids = token_ids(first[1], TEXTS)[:, -text.get("max_position_embeddings", 64) :]
    pixels = random_pixels(side)
    assert_close(network_answers(folder, pixels, ids), answers(model, pixels, ids))


def test_old_folders_are_read(first: tuple[SiglipModel, SiglipProcessor, Path], folder: Path) -> None:
    """Pickled weights with counters of positions, the preprocessor in a file of its own, and defaults left out."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for tower in ("text_model", "vision_model"):
        positions = len(state[f"{tower}.embeddings.position_embedding.weight"])
        state[f"{tower}.embeddings.position_ids"] = torch.arange(positions)[None]
    torch.save(state, folder / "pytorch_model.bin")
    settings = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(settings["image_processor"]))
    config = json.loads((folder / "config.json").read_text())
    for name in ("hidden_act", "layer_norm_eps", "max_position_embeddings", "projection_size"):
        config["text_config"].pop(name)
    changed(folder / "config.json", text_config=config["text_config"], architectures=None)
    model, processor, _ = first
    pixels, ids = random_pixels(50), token_ids(processor, TEXTS)
    assert_close(network_answers(folder, pixels, ids), answers(model, pixels, ids))


def test_a_bundle_is_written_back_with_the_same_outputs(
    first: tuple[SiglipModel, SiglipProcessor, Path], bundle: Bundle, tmp_path: Path
) -> None:
    transformers.write_folder(bundle, tmp_path / "out")
    model, processor, _ = first
    again = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert isinstance(again, SiglipModel)
    pixels, ids = random_pixels(50), token_ids(processor, TEXTS)
    for ours, theirs in zip(answers(again, pixels, ids), answers(model, pixels, ids), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    rows = tokenizer(TEXTS, padding="max_length", truncation=True)
    assert rows["input_ids"] == ids.tolist()
    assert "attention_mask" not in rows
    # And once more in, to the same tokens and pixels.
    restored = transformers.read_folder(tmp_path / "out", Options(exact_pixels=True))
    assert restored.tokenizer.encode(TEXTS) == bundle.tokenizer().encode(TEXTS)
    assert restored.preprocessing == bundle.preprocessing
    assert restored.config.model_copy(update={"name": bundle.manifest.config.name}) == bundle.manifest.config
    with pytest.raises(CheckpointError, match="not an empty folder"):
        transformers.write_folder(bundle, tmp_path / "out")


def test_a_tokenizer_of_another_model_is_refused_in_a_bundle(bundle: Bundle, tmp_path: Path) -> None:
    for file in bundle.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads(bundle.read(TOKENIZER))
    content["model"]["vocab"] += [[f"new{number}", -9.0] for number in range(704)]
    for forged, reason in (
        (json.dumps(content), "tokens, the text tower 704"),
        (Tokenizer.clip(600).as_json, "not a SigLIP"),
    ):
        (tmp_path / TOKENIZER).write_text(forged, "utf-8")
        with pytest.raises(BundleError, match=reason):
            write_manifest(tmp_path, bundle.manifest.model_dump()).tokenizer()


def test_pictures_of_another_size_are_taken_on_request(folder: Path) -> None:
    larger = resized(transformers.read_folder(folder, Options(image_size=70)), 70)
    assert larger.preprocessing.size == 70
    assert to_network(larger).encode_image(torch.zeros(2, 3, 70, 70)).shape == (2, 48)


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    for name, tensor, reason in (
        ("vision_model.head.probe", None, "no vision_model.head.probe"),
        ("vision_model.head.gate.weight", torch.zeros(2), "vision_model.head.gate.weight"),
        ("logit_bias", torch.zeros(2), "logit_bias has shape"),
        ("logit_bias", torch.tensor([torch.nan]), "logit_bias"),
        (
            "text_model.encoder.layers.1.self_attn.k_proj.bias",
            torch.zeros(3),
            r"1.self_attn.k_proj.bias has shape \[3\]",
        ),
        (
            "vision_model.embeddings.position_embedding.weight",
            torch.zeros(16, 48),
            r"embeddings.position_embedding.weight has",
        ),
        (
            "text_model.head.weight",
            torch.zeros(48, 48, dtype=torch.int8),
            r"head.weight holds torch.int8.*quantised",
        ),
    ):
        forged = {key: value for key, value in state.items() if key != name}
        save_file(forged if tensor is None else {**forged, name: tensor}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=reason):
            to_network(transformers.read_folder(folder, Options()))


def test_an_activation_on_the_command_line_wins_and_is_told(folder: Path) -> None:
    read = transformers.read_folder(folder, Options(activation="gelu"))
    assert read.config.activation == "gelu"
    assert read.source["activation_from"] == "the command line"
    assert any("gelu_tanh" in warning for warning in read.warnings)


def test_a_folder_without_a_preprocessor_is_read_with_a_warning(folder: Path) -> None:
    (folder / "processor_config.json").unlink()
    read = transformers.read_folder(folder, Options(exact_pixels=True))
    assert (read.preprocessing.size, read.preprocessing.resize_mode) == (50, "squash")
    assert any("preprocessor_config.json" in warning for warning in read.warnings)
