"""The architecture told from shapes, and what shapes do not tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.bundle import Bundle, bundled
from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.networks import to_network
from model.checkpoints.openai import read_state
from model.config import ModelConfig, ResNetConfig, TextConfig, ViTConfig, load_preset, preset_names
from model.network import build_network
from model.runtime.engine import Engine
from tests.model.checkpoints.openclip.models import Ours, expect_same, vary
from tests.model.checkpoints.openclip.models import build as build_theirs
from tests.model.conftest import TINY_RESNET, TINY_VIT, random_network

GELU = Options(activation="gelu")


def shapes(config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of a network, without the memory for them."""
    with torch.device("meta"):
        return build_network(config).state_dict()


def read(state: dict[str, Tensor], **options: Any) -> Checkpoint:
    return read_state(state, Options(**options), "some model/v1.0")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_told_from_its_shapes(name: str) -> None:
    preset = load_preset(name)
    checkpoint = read(shapes(preset), activation=preset.activation)
    assert checkpoint.config == preset
    assert checkpoint.preprocessing.size == preset.image.image_size
    assert not any("heads" in warning for warning in checkpoint.warnings)


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "ViT-S-16", "ViT-B-16-plus-240", "ViT-H-14", "ViT-g-14", "ViT-bigG-14", "RN50x4"]
)
def test_configurations_of_open_clip_are_told_from_the_shapes_of_its_models(open_clip: Any, name: str) -> None:
    file = Path(open_clip.__file__).parent / "model_configs" / f"{name}.json"
    cfg = json.loads(file.read_text())
    with torch.device("meta"):
        state = open_clip.CLIP(**cfg).state_dict()
    config = read(state, activation="gelu").config
    vision, text = cfg["vision_cfg"], cfg["text_cfg"]
    assert config.image.width == vision["width"]
    assert config.image.image_size == vision["image_size"]
    assert (config.text.width, config.text.heads, config.text.layers) == (text["width"], text["heads"], text["layers"])
    if isinstance(config.image, ViTConfig):
        assert config.image.heads == vision["width"] // vision.get("head_width", 64)
        assert (config.image.layers, config.image.patch_size) == (vision["layers"], vision["patch_size"])
        assert config.image.mlp_width in (None, int(vision["width"] * vision.get("mlp_ratio", 4)))
    assert {key: list(tensor.shape) for key, tensor in shapes(config).items()} == {
        key: list(tensor.shape) for key, tensor in state.items()
    }


@pytest.mark.parametrize(
    "cfg",
    [
        vary({"width": 128, "head_width": 64, "mlp_ratio": 2.5}, {"width": 192, "heads": 3}, quick_gelu=True),
        vary(text={"width": 64, "heads": 1, "context_length": 20}, quick_gelu=True)
        | {"vision_cfg": {"image_size": 96, "layers": [2, 1, 1, 2], "width": 6, "head_width": 64, "patch_size": None}},
    ],
    ids=["vit", "resnet"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_state_dictionary_gives_the_vectors_of_its_model(
    open_clip: Any, tmp_path: Path, cfg: dict[str, Any], name: str
) -> None:
    model = build_theirs(open_clip, cfg)
    state = model.state_dict()
    save_file(state, tmp_path / name) if name.endswith("safetensors") else torch.save(state, tmp_path / name)
    checkpoint = read_checkpoint(tmp_path / name, Options())
    length = cfg["text_cfg"].get("context_length", 77)
    expect_same(Ours.read(checkpoint), model, open_clip.SimpleTokenizer(context_length=length))


def test_our_own_weights_are_in_this_layout() -> None:
    """A bundle's weights.safetensors is imported as what it is."""
    bundle = Bundle.load(bundled())
    checkpoint = read_checkpoint(
        bundle.path / "weights.safetensors", Options(activation=bundle.manifest.config.activation)
    )
    assert checkpoint.config == bundle.manifest.config
    assert checkpoint.tokenizer.vocab_size == bundle.manifest.config.text.vocab_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, bundle.image_size, bundle.image_size, 3), dtype=np.uint8)
    ours = Ours.read(checkpoint).embed_images(pixels)
    np.testing.assert_allclose(ours, Engine(bundle, provider="cpu").embed_images(pixels), atol=1e-4)


def test_an_unknown_activation_is_assumed_aloud() -> None:
    checkpoint = read(shapes(TINY_VIT))
    assert checkpoint.config.activation == "quick_gelu"
    assert checkpoint.source["activation_from"] == "assumed"
    (warning,) = [warning for warning in checkpoint.warnings if "activation" in warning]
    assert "quick_gelu is assumed" in warning
    assert "--activation gelu" in warning


def test_the_activation_is_the_users_then_the_architectures_then_the_archives() -> None:
    state = shapes(TINY_RESNET)
    told = read_state(state, Options(), "x", "gelu_tanh", archive=True)
    assert (told.config.activation, told.source["activation_from"]) == ("gelu_tanh", "the code in the archive")
    assert not any("activation" in warning for warning in told.warnings)

    chosen = read_state(state, Options(architecture=TINY_RESNET), "x", "quick_gelu", archive=True)
    assert (chosen.config.activation, chosen.source["activation_from"]) == ("gelu", "the architecture tiny-resnet")
    assert "where the code in the archive computes quick_gelu" in " ".join(chosen.warnings)

    asked = read_state(state, Options(architecture=TINY_RESNET, activation="quick_gelu"), "x", "quick_gelu")
    assert (asked.config.activation, asked.source["activation_from"]) == ("quick_gelu", "--activation")
    assert not any("activation" in warning for warning in asked.warnings)


def test_an_architecture_overrides_what_shapes_tell() -> None:
    narrow = ModelConfig.model_validate(
        {**TINY_VIT.model_dump(), "image": {**TINY_VIT.image.model_dump(), "heads": 4}, "activation": "gelu"}
    )
    state = random_network(narrow).state_dict()
    assert read(dict(state)).config.image.heads == 1
    assert any("heads" in warning for warning in read(dict(state)).warnings)
    checkpoint = read(dict(state), architecture=narrow)
    assert checkpoint.config == narrow
    assert not any("heads" in warning for warning in checkpoint.warnings)
    assert to_network(checkpoint).config == narrow


def test_an_architecture_of_other_shapes_is_refused_by_the_tensor() -> None:
    checkpoint = read(random_network(TINY_VIT).state_dict(), architecture=TINY_RESNET)
    with pytest.raises(CheckpointError, match=r"visual\.class_embedding"):
        to_network(checkpoint)
    wider = TINY_VIT.model_copy(update={"text": TextConfig(width=128, heads=2, layers=2, vocab_size=1024)})
    checkpoint = read(random_network(TINY_VIT).state_dict(), architecture=wider)
    with pytest.raises(CheckpointError, match=r"positional_embedding has shape \[77, 64\], tiny-vit needs \[77, 128\]"):
        to_network(checkpoint)


def test_numbers_beside_the_weights_are_passed_over() -> None:
    state = random_network(TINY_RESNET).state_dict()
    beside = {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}
    checkpoint = read({**state, **beside, "attn_mask": torch.zeros(77, 77), "logit_scale": torch.tensor([2.5])})
    assert to_network(checkpoint).logit_scale.item() == 2.5


@pytest.mark.parametrize(("vocab_size", "said"), [(49408, None), (49407, "first merges"), (49409, None)])
def test_the_tokenizer_is_clips(vocab_size: int, said: str | None) -> None:
    state = shapes(TINY_VIT) | {"token_embedding.weight": torch.empty(vocab_size, 64, device="meta")}
    if vocab_size > 49408:
        with pytest.raises(CheckpointError, match=r"token_embedding\.weight is for another tokenizer"):
            read(state)
        return
    checkpoint = read(state)
    assert checkpoint.tokenizer.vocab_size == vocab_size
    assert any("first merges" in warning for warning in checkpoint.warnings) == (said is not None)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("epoch 10/α", "epoch-10-"), ("..hidden", "hidden"), ("***", "clip"), ("a" * 300, "a" * 100), ("B_32", "B_32")],
)
def test_the_name_is_made_safe(name: str, safe: str) -> None:
    assert read_state(shapes(TINY_VIT), GELU, name).config.name == safe


@pytest.mark.parametrize("exact", [False, True])
def test_the_preprocessing_is_openais(exact: bool) -> None:
    pixels = read(shapes(TINY_VIT), exact_pixels=exact).preprocessing
    assert (pixels.size, pixels.interpolation, pixels.resize_mode) == (48, "bicubic", "shortest")
    assert (pixels.exif_orientation, pixels.alpha) == ((False, "drop") if exact else (True, "white"))


def changed(**tensors: Any) -> dict[str, Tensor]:
    """The shapes of the small ViT, with some put in the place of others, or None for away."""
    state = {**shapes(TINY_VIT), **{name.replace("__", "."): shape for name, shape in tensors.items()}}
    return {
        name: torch.empty(shape, device="meta") if isinstance(shape, tuple) else shape
        for name, shape in state.items()
        if shape is not None
    }


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, "there is no text_projection"),
        (changed(visual__conv1__weight=None), "there is no visual.conv1.weight"),
        (changed(text_projection=(64,)), r"text_projection has shape \[64\]"),
        (changed(text_projection=(64, 0)), r"text_projection has shape \[64, 0\]"),
        (changed(visual__positional_embedding=(11, 64)), "11 positions"),
        (changed(visual__positional_embedding=(1, 64)), "1 positions"),
        (changed(visual__positional_embedding=(1_000_000**2 + 1, 64)), "image_size"),
        (changed(token_embedding__weight=(3, 64)), "vocab_size"),
        (changed(token_embedding__weight=(1024, 20_000)), "width"),
        (changed(visual__trunk__blocks__0__attn__qkv__weight=(3, 3)), "an image tower of timm"),
        (changed(visual__transformer__resblocks__0__ls_1__gamma=(3,)), "LayerScale"),
        (changed(text_decoder__ln_final__weight=(3,)), "the text decoder of CoCa"),
        (changed(image_encoder__model__patch_emb__0__weight=(3,)), "a tower of MobileCLIP"),
        (changed(vision_model__embeddings__class_embedding=(3,)), "the folder that has config.json"),
    ],
)
def test_what_is_not_in_this_layout_is_refused_in_words(state: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read(state)


def test_siglip_as_an_architecture_is_refused() -> None:
    siglip = ModelConfig.model_validate(
        {
            "name": "siglip",
            "embed_dim": 64,
            "activation": "gelu_tanh",
            "image": {"kind": "siglip", "image_size": 32, "patch_size": 16, "width": 64, "layers": 1, "heads": 1},
            "text": {"kind": "siglip", "width": 64, "layers": 1, "heads": 1},
        }
    )
    with pytest.raises(CheckpointError, match="not one of OpenAI's"):
        read(shapes(TINY_VIT), architecture=siglip)


@pytest.mark.parametrize("stem", ["deep", "strided"])
def test_block_and_stem_of_a_resnet_are_told(stem: Literal["deep", "strided"]) -> None:
    basic = ResNetConfig(block="basic", stem=stem, image_size=64, width=32, layers=(1, 1, 1, 1), heads=4)
    config = TINY_VIT.model_copy(update={"image": basic})
    assert read(shapes(config)).config.image == basic
    assert read(shapes(TINY_RESNET)).config.image == TINY_RESNET.image
