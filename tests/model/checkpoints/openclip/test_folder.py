"""Hub folders of open_clip, imported and compared with what open_clip computes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from model.checkpoints.openclip import write_folder
from model.checkpoints.openclip.training_checkpoint import WEIGHTS
from tests.model.checkpoints.openclip.models import (
    RESNET,
    SIGLIP_TEXT,
    SIGLIP_VISION,
    VIT,
    Ours,
    build,
    expect_same,
    save_folder,
    vary,
)
from tests.model.sentences import siglip2_tokenizer, spiece_as_t5

SAFETENSORS, BIN = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
QUICK_RESNET = vary(nonscalar_logit_scale=True, quick_gelu=True) | {"vision_cfg": RESNET}


@pytest.mark.parametrize(
    ("cfg", "weights"),
    [
        (VIT, SAFETENSORS),
        (vary({"patch_size": 12, "head_width": 16, "mlp_ratio": 2.7}, {"mlp_ratio": 3.3}, quick_gelu=True), BIN),
        (vary(custom_text=True, quick_gelu=True), SAFETENSORS),
        (vary({"norm_kwargs": {"eps": 1e-3}}, {"norm_kwargs": {"eps": 1e-2}, "context_length": 32}), SAFETENSORS),
        (vary({"act_kwargs": {"approximate": "tanh"}}, {"pool_type": "eos", "eos_id": 49407}), SAFETENSORS),
        (vary({"final_ln_after_pool": True, "pos_embed_type": "sin_cos_2d", "block_type": "custom"}), SAFETENSORS),
        (vary() | {"vision_cfg": RESNET}, BIN),
    ],
    ids=["gelu", "mlp-ratio", "custom-text", "eps", "tanh-and-eos", "same-by-other-names", "resnet"],
)
def test_a_hub_folder_gives_the_vectors_that_open_clip_gives(
    open_clip: Any, tmp_path: Path, cfg: dict[str, Any], weights: str
) -> None:
    model = build(open_clip, cfg)
    folder = save_folder(model, cfg, tmp_path / "model", weights=weights)
    checkpoint = read_checkpoint(folder, Options())
    assert (checkpoint.config.name, checkpoint.warnings, checkpoint.source["weights"]) == ("model", [], weights)
    expect_same(Ours.read(checkpoint), model, open_clip.get_tokenizer(f"local-dir:{folder}"))


@pytest.mark.parametrize(
    "cfg",
    [vary(quick_gelu=True, vision={"head_width": 16, "mlp_ratio": 3}), QUICK_RESNET],
    ids=["vit", "resnet"],
)
def test_a_bundle_gives_the_vectors_that_open_clip_gives_and_goes_back(
    open_clip: Any, tmp_path: Path, cfg: dict[str, Any]
) -> None:
    model = build(open_clip, cfg)
    folder = save_folder(model, cfg, tmp_path / "model", weights=SAFETENSORS, mean=[0.5] * 3, interpolation="bilinear")
    bundle, warnings = import_checkpoint(folder, tmp_path / "bundle", Options())
    assert warnings == []
    assert bundle.manifest.config.activation == "quick_gelu"
    assert "quick_gelu True" in bundle.manifest.source["activation_from"]
    assert (bundle.preprocessing.mean, bundle.preprocessing.interpolation) == ((0.5, 0.5, 0.5), "bilinear")
    expect_same(Ours.served(bundle), model, open_clip.get_tokenizer(f"local-dir:{folder}"))
    write_folder(bundle, tmp_path / "back")
    back = f"local-dir:{tmp_path / 'back'}"
    expect_same(Ours.served(bundle), open_clip.create_model(back).eval(), open_clip.get_tokenizer(back))


@pytest.mark.parametrize(
    ("tower", "size", "text", "activations"),
    [
        ("vit_base_patch16_siglip_224", 224, {"act_kwargs": {"approximate": "tanh"}}, ("gelu", "gelu_tanh")),
        ("vit_base_patch32_siglip_256", 256, {"proj_type": "none", "width": 768}, ("gelu_tanh", "gelu")),
    ],
    ids=["gemma", "t5-without-projection"],
)
def test_siglip_folders_give_the_vectors_that_open_clip_gives(
    open_clip: Any, tmp_path: Path, tower: str, size: int, text: dict[str, Any], activations: tuple[str, str]
) -> None:
    pytest.importorskip("timm")
    cfg = {
        "embed_dim": 768,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": SIGLIP_VISION | {"timm_model_name": tower, "image_size": size},
        "text_cfg": SIGLIP_TEXT | text,
    }
    model = build(open_clip, cfg)
    half = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    folder = save_folder(model, cfg, tmp_path / "model", weights=SAFETENSORS, **half)
    tokenizer = siglip2_tokenizer(folder) if activations[0] == "gelu" else spiece_as_t5()
    tokenizer.save_pretrained(folder)
    checkpoint = read_checkpoint(folder, Options())
    assert (checkpoint.config.activation, checkpoint.config.text_activation) == activations
    assert checkpoint.preprocessing.resize_mode == "squash"
    expect_same(Ours.read(checkpoint), model, open_clip.get_tokenizer(f"local-dir:{folder}"), pictures=1)


def test_the_activation_of_the_configuration_can_be_overridden_and_is_told(open_clip: Any, tmp_path: Path) -> None:
    cfg = vary(quick_gelu=True)
    folder = save_folder(build(open_clip, cfg), cfg, tmp_path / "model", weights=SAFETENSORS)
    checkpoint = read_checkpoint(folder, Options(activation="gelu"))
    assert checkpoint.config.activation == "gelu"
    assert checkpoint.source["activation_from"] == "--activation"
    [warning] = checkpoint.warnings
    assert "quick_gelu" in warning
    same = read_checkpoint(folder, Options(activation="quick_gelu"))
    assert same.warnings == []


def test_the_weights_are_those_that_open_clip_prefers(open_clip: Any, tmp_path: Path) -> None:
    folder = save_folder(build(open_clip, VIT), VIT, tmp_path / "model", weights="renamed.bin")
    assert read_checkpoint(folder, Options()).source["weights"] == "renamed.bin"
    state = torch.load(folder / "renamed.bin", weights_only=True)
    for name in reversed(WEIGHTS):
        save_file(state, folder / name) if name.endswith(".safetensors") else torch.save(state, folder / name)
        theirs = open_clip.factory._find_checkpoint_in_dir(folder)
        assert read_checkpoint(folder, Options()).source["weights"] == Path(theirs).name == name
    for file in (*WEIGHTS, "renamed.bin"):
        (folder / file).unlink()
    with pytest.raises(CheckpointError, match=r"no weights.*open_clip_model.safetensors"):
        read_checkpoint(folder, Options())


def test_a_folder_that_names_a_tokenizer_must_hold_one_of_clips_kind(open_clip: Any, tmp_path: Path) -> None:
    cfg = vary(text={"hf_tokenizer_name": "bert-base-uncased"})
    folder = save_folder(build(open_clip, VIT), cfg, tmp_path / "model", weights=SAFETENSORS)
    with pytest.raises(CheckpointError, match=r"bert-base-uncased.*put the tokenizer of that name"):
        read_checkpoint(folder, Options())
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece"}}))
    with pytest.raises(CheckpointError, match="WordPiece"):
        read_checkpoint(folder, Options())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "not an object"),
        ("{}", "model_cfg has no vision_cfg"),
        ('{"model_cfg": 1}', "model_cfg has no vision_cfg"),
        ('{"model_cfg": {"vision_cfg": {}, "text_cfg": []}}', "model_cfg has no text_cfg"),
        ('{"preprocess_cfg": "RGB"}', "preprocess_cfg is a str"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path, Options())


def test_missing_surplus_and_misshapen_tensors_are_named(open_clip: Any, tmp_path: Path) -> None:
    folder = save_folder(build(open_clip, VIT), VIT, tmp_path / "model", weights=SAFETENSORS)
    for cfg, named in [
        (vary({"layers": 3}), "visual.transformer.resblocks.2"),
        (vary({"layers": 1}), "visual.transformer.resblocks.1"),
        (vary({"patch_size": 8}), "visual.(positional_embedding|conv1.weight)"),
        (vary({}, {"context_length": 76}), "positional_embedding"),
    ]:
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
        with pytest.raises(CheckpointError, match=named):
            Ours.read(read_checkpoint(folder, Options()))


def test_shards_give_the_tensors_of_the_whole(open_clip: Any, tmp_path: Path) -> None:
    folder = save_folder(build(open_clip, VIT), VIT, tmp_path / "model", weights=SAFETENSORS)
    whole = read_checkpoint(folder, Options()).state
    (folder / SAFETENSORS).unlink()
    places = {name: f"open_clip_model-{number % 2}.safetensors" for number, name in enumerate(whole)}
    for shard in set(places.values()):
        save_file({name: whole[name].contiguous() for name in whole if places[name] == shard}, folder / shard)
    (folder / f"{SAFETENSORS}.index.json").write_text(json.dumps({"weight_map": places}))
    state = read_checkpoint(folder, Options()).state
    assert set(state) == set(whole)
    assert all(torch.equal(state[name], tensor) for name, tensor in whole.items())


def test_preprocessing_is_refused_by_its_file(open_clip: Any, tmp_path: Path) -> None:
    folder = save_folder(build(open_clip, VIT), VIT, tmp_path / "model", weights=SAFETENSORS, resize_mode="shorter")
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json: preprocessing with resize_mode 'shorter'"):
        read_checkpoint(folder, Options())


def test_padding_to_a_square_is_read(open_clip: Any, tmp_path: Path) -> None:
    cfg = {"resize_mode": "longest", "fill_color": 128}
    folder = save_folder(build(open_clip, VIT), VIT, tmp_path / "model", weights=SAFETENSORS, **cfg)
    preprocessing = read_checkpoint(folder, Options()).preprocessing
    assert (preprocessing.resize_mode, preprocessing.fill_color) == ("longest", 128)
