"""Every configuration that open_clip ships is read, or refused by the field that we do not compute."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.openclip import siglip
from model.checkpoints.openclip.config import ParsedConfig, read_model_cfg
from model.checkpoints.openclip.fields import Section
from tests.model.checkpoints.openclip.models import SIGLIP_TEXT, SIGLIP_VISION, VIT, expect_same_shapes, vary

SIGLIP: dict[str, Any] = {
    "embed_dim": 768,
    "init_logit_bias": -10,
    "vision_cfg": SIGLIP_VISION | {"timm_model_name": "vit_base_patch16_siglip_256", "image_size": 256},
    "text_cfg": SIGLIP_TEXT,
}
# What open_clip 3.3.0 ships: 67 of 144 are ours.
READ = {"vit": 31, "resnet": 10, "siglip": 26}
REFUSED = {
    "timm_model_name": 50,
    "eos_id": 7,
    "no_ln_pre": 6,
    "multimodal_cfg": 4,
    "hf_model_name": 9,
    "ls_init_value": 1,
}


def read(cfg: dict[str, Any], name: str = "model") -> ParsedConfig:
    return read_model_cfg(cfg, Options(), name)


def shipped(open_clip: Any) -> dict[str, dict[str, Any]]:
    files = (Path(open_clip.__file__).parent / "model_configs").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in sorted(files)}


def verdict(name: str, cfg: dict[str, Any]) -> str:
    """The kind of the towers of a configuration that is read, or the field of one that is refused."""
    try:
        config = read(cfg, name).config
    except CheckpointError as error:
        return re.sub(r"^model_cfg has (?:vision_cfg\.|text_cfg\.)?(\w+) .*", r"\1", str(error), flags=re.DOTALL)
    assert (config.activation == "quick_gelu") == name.endswith("-quickgelu")
    return config.image.kind


def test_every_shipped_configuration_is_read_or_refused_by_a_field(open_clip: Any) -> None:
    assert Counter(verdict(name, cfg) for name, cfg in shipped(open_clip).items()) == READ | REFUSED


@pytest.mark.parametrize(
    "name",
    [
        *("RN50x64-quickgelu", "RN101", "ViT-B-32-quickgelu", "ViT-B-16-plus-240", "ViT-H-14-378", "ViT-L-14-336"),
        *("ViT-M-32-alt", "ViT-S-16-alt", "ViT-bigG-14", "ViT-e-14", "ViT-g-14"),
        *("ViT-B-16-SigLIP", "ViT-SO400M-16-SigLIP-i18n-256", "ViT-SO400M-14-SigLIP-384", "ViT-gopt-16-SigLIP2-256"),
    ],
)
def test_a_network_has_the_tensors_of_open_clips(open_clip: Any, name: str) -> None:
    if "SigLIP" in name:
        pytest.importorskip("timm")
    cfg = shipped(open_clip)[name]
    expect_same_shapes(open_clip, cfg, read(cfg, name).config)


def test_the_activation_of_siglips_image_towers_is_timms(open_clip: Any) -> None:
    timm = pytest.importorskip("timm")
    towers = [tower for tower in timm.list_models("vit_*_siglip_*") if "gap" not in tower and "naflex" not in tower]
    assert len(towers) == 16
    for tower in towers:
        with torch.device("meta"):
            activation = timm.create_model(tower).blocks[0].mlp.act
        size = int(tower.rpartition("_")[2])
        cfg = copy.deepcopy(SIGLIP)
        cfg["vision_cfg"] |= {"timm_model_name": tower, "image_size": size}
        width = siglip.towers(Section("", cfg["vision_cfg"]), Section("", cfg["text_cfg"]), False)["image"].width
        told = read(cfg | {"embed_dim": width}).config.activation
        assert told == ("gelu_tanh" if "tanh" in repr(activation).lower() else "gelu"), tower


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("vision_cfg", "timm_model_name", "fastvit_mci2"),
        ("vision_cfg", "attentional_pool", True),
        ("vision_cfg", "attentional_pool", "parallel"),
        ("vision_cfg", "no_ln_pre", True),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "ls_init_value", 1e-4),
        ("vision_cfg", "output_tokens", True),
        ("vision_cfg", "block_type", "parallel"),
        ("vision_cfg", "qk_norm", True),
        ("vision_cfg", "scaled_cosine_attn", True),
        ("vision_cfg", "scale_heads", True),
        ("vision_cfg", "scale_attn_inner", True),
        ("vision_cfg", "scale_attn", True),
        ("vision_cfg", "scale_fc", True),
        ("vision_cfg", "norm_kwargs", {"eps": 1e-6, "bias": False}),
        ("vision_cfg", "norm_kwargs", {"eps": "1e-6"}),
        ("vision_cfg", "act_kwargs", {"approximate": "sigmoid"}),
        ("vision_cfg", "act_kwargs", {"approximate": ["tanh"]}),
        ("vision_cfg", "act_kwargs", "tanh"),
        ("vision_cfg", "image_size", [224, 192]),
        ("vision_cfg", "patch_size", 0),
        ("vision_cfg", "patch_size", "16"),
        ("vision_cfg", "width", True),
        ("vision_cfg", "layers", 2.0),
        ("vision_cfg", "head_width", 65),
        ("vision_cfg", "mlp_ratio", -1),
        ("vision_cfg", "registers", 4),
        ("text_cfg", "hf_model_name", "xlm-roberta-base"),
        ("text_cfg", "embed_cls", True),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "proj_type", "none"),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "tokenizer_mode", "clips"),
        ("text_cfg", "ls_init_value", 0),
        ("text_cfg", "correct_cls_mask", True),
        ("text_cfg", "mlp_ratio", float("nan")),
        ("", "multimodal_cfg", {}),
        ("", "init_logit_bias", -10),
        ("", "quick_gelu", "yes"),
        ("", "audio_cfg", {}),
        ("", "embed_dim", None),
    ],
)
def test_what_our_towers_do_not_compute_is_refused_by_name(section: str, field: str, value: Any) -> None:
    assert read(VIT).config.embed_dim == 32
    cfg = vary(**{section.removesuffix("_cfg"): {field: value}}) if section else vary(**{field: value})
    name = f"{section}.{field}" if section else field
    with pytest.raises(CheckpointError, match=f"^model_cfg has {re.escape(f'{name} {value!r}')}: "):
        read(cfg)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base_patch16_siglip_gap_256"),
        ("vision_cfg", "image_size", 384),
        ("vision_cfg", "timm_pool", "avg"),
        ("vision_cfg", "timm_proj", "linear"),
        ("text_cfg", "no_causal_mask", False),
        ("text_cfg", "pool_type", "argmax"),
        ("text_cfg", "proj_bias", False),
        ("text_cfg", "hf_model_name", "google/mt5-base"),
    ],
)
def test_what_siglips_towers_do_not_compute_is_refused_by_name(section: str, field: str, value: Any) -> None:
    cfg = copy.deepcopy(SIGLIP)
    assert read(cfg).config.image.kind == "siglip"
    cfg[section][field] = value
    with pytest.raises(CheckpointError, match=re.escape(f"{section}.{field} {value!r}: ")):
        read(cfg)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("vision_cfg", "timm_pool", "avg"),
        ("vision_cfg", "timm_proj", "linear"),
        ("text_cfg", "no_causal_mask", False),
        ("text_cfg", "pool_type", "argmax"),
        ("text_cfg", "proj_bias", None),
    ],
)
def test_siglips_fields_are_not_taken_for_granted(section: str, field: str, value: Any) -> None:
    cfg = copy.deepcopy(SIGLIP)
    del cfg[section][field]
    with pytest.raises(CheckpointError, match=re.escape(f"{section}.{field} {value!r}: ")):
        read(cfg)


def test_a_projection_is_made_only_where_the_configuration_has_none() -> None:
    pool = {
        f"visual.trunk.attn_pool.{layer}.{part}": torch.ones(2) for layer in ("q", "kv") for part in ("weight", "bias")
    }
    state = {**pool, "ln_final.weight": torch.ones(3)}
    assert "text_projection.weight" not in siglip.our_names(state, SIGLIP_TEXT)
    made = siglip.our_names(state, SIGLIP_TEXT | {"proj_type": "none"})
    assert made["text_projection.weight"].tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize("query", [{}, {"visual.trunk.attn_pool.q.weight": torch.ones(2, 2)}])
def test_a_pool_that_lacks_a_part_is_refused(query: dict[str, torch.Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"visual\.trunk\.attn_pool\.q\.weight"):
        siglip.our_names({**query, "visual.trunk.attn_pool.kv.weight": torch.ones(4)}, SIGLIP_TEXT)


def test_a_pooled_end_must_be_the_largest_id() -> None:
    assert read(vary(text={"pool_type": "eos", "eos_id": 49407})).config.text.kind == "clip"
    with pytest.raises(CheckpointError, match=r"text_cfg\.eos_id 2"):
        read(vary(text={"pool_type": "eos"}))


def test_quick_gelu_takes_no_arguments() -> None:
    with pytest.raises(CheckpointError, match=r"text_cfg\.act_kwargs"):
        read(vary(text={"act_kwargs": {"approximate": "tanh"}}, quick_gelu=True))


def test_towers_may_differ_in_their_activation() -> None:
    told = read(vary(text={"act_kwargs": {"approximate": "tanh"}}))
    assert (told.config.activation, told.config.text_activation) == ("gelu", "gelu_tanh")
    assert "act_kwargs" in told.activation_from
    chosen = read_model_cfg(vary(text={"act_kwargs": {"approximate": "tanh"}}), Options(activation="gelu"), "model")
    assert (chosen.config.activation, chosen.config.text_activation) == ("gelu", None)
    assert len(chosen.warnings) == 1


def test_sizes_that_do_not_fit_are_refused() -> None:
    for cfg in (vary({"image_size": 50}), vary({"layers": 1000}), vary(text={"heads": 3}), vary(embed_dim=-1)):
        with pytest.raises(CheckpointError):
            read(cfg)


def test_numbers_beyond_all_bounds_are_refused_by_their_field() -> None:
    for cfg, field in (
        (vary({"width": 10**400}), "width"),
        (vary({"norm_kwargs": {"eps": 10**400}}), "norm_kwargs"),
        (vary({"timm_model_name": f"vit_base_patch{'9' * 5000}_siglip_224"}), "timm_model_name"),
    ):
        with pytest.raises(CheckpointError, match=field):
            read(cfg)
