"""Bundles written for open_clip, and loaded by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from model.bundle import Bundle, bundled
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.networks import load_network, to_network
from model.checkpoints.openclip.config import read_model_cfg, to_model_cfg
from model.checkpoints.openclip.folder import write_folder
from model.config import ModelConfig, ResNetConfig, SiglipTextConfig, SiglipViTConfig, TextConfig, ViTConfig
from tests.model.checkpoints.openclip.models import Ours, expect_same, expect_same_shapes
from tests.model.sentences import strange_texts


def test_open_clip_computes_what_the_bundle_does(
    open_clip: Any, exported: tuple[nn.Module, Bundle], tmp_path: Path
) -> None:
    bundle = exported[1]
    write_folder(bundle, tmp_path / "theirs")
    where = f"local-dir:{tmp_path / 'theirs'}"
    expect_same(Ours.served(bundle), open_clip.create_model(where).eval(), open_clip.get_tokenizer(where))


def test_what_was_written_is_read_again_unchanged(exported: tuple[nn.Module, Bundle], tmp_path: Path) -> None:
    bundle = exported[1]
    write_folder(bundle, tmp_path / bundle.id)
    again = read_checkpoint(tmp_path / bundle.id, Options())
    assert (again.config, again.preprocessing) == (bundle.manifest.config, bundle.preprocessing)
    state = load_network(bundle).state_dict()
    network = to_network(again)
    assert all((tensor == state[name]).all() for name, tensor in network.state_dict().items())
    texts = strange_texts(200, seed=7)
    assert again.tokenizer.encode(texts) == bundle.tokenizer().encode(texts)


def test_a_smaller_vocabulary_gives_the_same_ids_in_open_clip(
    open_clip: Any, exported: tuple[nn.Module, Bundle], tmp_path: Path
) -> None:
    bundle = exported[1]
    write_folder(bundle, tmp_path / "theirs")
    tokenizer, ours = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'theirs'}"), bundle.tokenizer()
    spelt = ["e&#769; e\u0301 &eacute;", "it's!", "&amp;lt;b&amp;gt;", "İ ΟΔΥΣΣΕΥΣ ſ", "of all things, " * 40]
    texts = ["", *spelt, *strange_texts(3_000, seed=5)]
    for text, row, ids in zip(texts, tokenizer(texts).tolist(), ours.encode(texts), strict=True):
        mine = ours.truncate(ids)
        # Theirs is filled up with the token that ends the text, after which nothing is looked at.
        assert row == mine + [mine[-1]] * (bundle.context_length - len(mine)), ascii(text)


def test_the_folder_says_what_it_is(exported: tuple[nn.Module, Bundle], tmp_path: Path) -> None:
    bundle = exported[1]
    write_folder(bundle, tmp_path / "theirs")
    files = {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {file.name for file in (tmp_path / "theirs").iterdir()} == {"README.md", *files}
    readme = (tmp_path / "theirs" / "README.md").read_text("utf-8")
    for said in (bundle.id, bundle.digest, "local-dir:", "EXIF", "transparency", "hf_tokenizer_name"):
        assert said in readme


def test_a_folder_with_content_is_left_alone(exported: tuple[nn.Module, Bundle], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        write_folder(exported[1], tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_blocks_that_open_clip_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"visual\.layer1\.0 is a basic block"):
        write_folder(Bundle.load(bundled()), tmp_path / "theirs")
    assert not (tmp_path / "theirs").exists()


def test_a_stem_that_open_clip_does_not_have_is_refused() -> None:
    image = ResNetConfig(stem="strided", image_size=64, width=6, layers=(1, 2, 1, 3), heads=6)
    config = ModelConfig(
        name="m", embed_dim=64, activation="gelu", image=image, text=TextConfig(width=64, heads=2, layers=1)
    )
    with pytest.raises(CheckpointError, match=r"visual\.conv2 is the end of a strided stem"):
        to_model_cfg(config)


def test_towers_that_open_clip_has_in_timm_are_refused() -> None:
    image = SiglipViTConfig(image_size=32, patch_size=16, width=64, layers=1, heads=2)
    text = SiglipTextConfig(width=64, heads=2, layers=1)
    config = ModelConfig(name="m", embed_dim=64, activation="gelu_tanh", image=image, text=text)
    with pytest.raises(CheckpointError, match=r"visual\.pool.*huggingface"):
        to_model_cfg(config)


def test_activations_that_open_clip_cannot_mix_are_refused() -> None:
    image = ViTConfig(image_size=32, patch_size=16, width=64, layers=1, heads=2)
    config = ModelConfig(
        name="m",
        embed_dim=64,
        activation="quick_gelu",
        text_activation="gelu",
        image=image,
        text=TextConfig(width=64, heads=2, layers=1),
    )
    with pytest.raises(CheckpointError, match="quick_gelu in the image tower beside gelu in the text tower"):
        to_model_cfg(config)


VIT_IMAGE = ViTConfig(image_size=48, patch_size=16, width=64, layers=2, heads=4, mlp_width=173, norm_eps=1e-4)
TEXT = TextConfig(width=72, heads=3, layers=2, mlp_width=71, context_length=20)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(name="m", embed_dim=24, activation="quick_gelu", image=VIT_IMAGE, text=TEXT),
        ModelConfig(name="m", embed_dim=24, activation="gelu", text_activation="gelu_tanh", image=VIT_IMAGE, text=TEXT),
        ModelConfig(
            name="m",
            embed_dim=24,
            activation="gelu_tanh",
            image=ResNetConfig(image_size=64, width=6, layers=(1, 2, 1, 3), heads=6),
            text=TextConfig(width=64, heads=2, layers=2, norm_eps=1e-3),
        ),
    ],
    ids=["quick-gelu", "two-activations", "resnet"],
)
def test_a_configuration_that_was_written_is_read_again_and_understood_by_open_clip(
    open_clip: Any, config: ModelConfig
) -> None:
    cfg = json.loads(json.dumps(to_model_cfg(config)))
    assert read_model_cfg(cfg, Options(), "m").config == config
    expect_same_shapes(open_clip, cfg, config)


def test_every_perceptron_width_survives_the_way_through_a_ratio() -> None:
    for hidden in range(1, 700):
        image = VIT_IMAGE.model_copy(update={"width": 88, "mlp_width": hidden})
        config = ModelConfig(name="m", embed_dim=24, activation="gelu", image=image, text=TEXT)
        again = read_model_cfg(to_model_cfg(config), Options(), "m").config.image
        assert isinstance(again, ViTConfig)
        assert again.mlp_width == (hidden if hidden != 4 * 88 else None)
