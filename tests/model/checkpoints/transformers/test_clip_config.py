"""config.json: what is left out is as in transformers, and what cannot be imported is refused at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig

from model.checkpoints import transformers
from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.transformers.config import ParsedConfig, read_config
from model.config import TextConfig, ViTConfig

FILE = Path("config.json")


def clip(text: Any = None, vision: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "text_config": {"hidden_act": "gelu", **(text or {})},
        "vision_config": {"hidden_act": "gelu", **(vision or {})},
        **fields,
    }


def read(content: dict[str, Any], options: Options | None = None) -> ParsedConfig:
    return read_config(content, FILE, options or Options(), "it")


@pytest.mark.parametrize(
    "content",
    [
        {"model_type": "clip"},
        {"architectures": ["CLIPModel"], "text_config": None, "vision_config": None, "projection_dim": None},
        clip({"hidden_size": 256}, {"image_size": 64}, projection_dim=20),
        {
            "model_type": "clip",
            "text_config": {"hidden_size": 64, "max_position_embeddings": 33},
            "text_config_dict": {"hidden_size": 640, "num_attention_heads": 10},
            "vision_config_dict": {"patch_size": 16, "layer_norm_eps": 1e-6},
        },
    ],
    ids=["nothing", "null", "some", "old"],
)
def test_what_is_left_out_is_as_in_transformers(content: dict[str, Any]):
    theirs = CLIPConfig(**{key: value for key, value in content.items() if value is not None})
    config = read(content).config
    text, image = theirs.text_config, theirs.vision_config
    assert isinstance(config.text, TextConfig)
    assert isinstance(config.image, ViTConfig)
    assert config.embed_dim == theirs.projection_dim
    assert (config.text.vocab_size, config.text.context_length) == (text.vocab_size, text.max_position_embeddings)
    assert (config.image.image_size, config.image.patch_size) == (image.image_size, image.patch_size)
    for ours, other in ((config.text, text), (config.image, image)):
        assert (ours.width, ours.heads, ours.layers) == (
            *(other.hidden_size, other.num_attention_heads),
            other.num_hidden_layers,
        )
        assert (ours.mlp_width or 4 * ours.width, ours.norm_eps) == (other.intermediate_size, other.layer_norm_eps)


@pytest.mark.parametrize(
    ("text", "vision", "expected"),
    [
        ("quick_gelu", "quick_gelu", ("quick_gelu", None)),
        ("gelu", "gelu", ("gelu", None)),
        ("gelu_pytorch_tanh", "gelu_new", ("gelu_tanh", None)),
        ("gelu", "quick_gelu", ("quick_gelu", "gelu")),
    ],
)
def test_the_activation_is_that_of_each_tower(text: str, vision: str, expected: tuple[str, str | None]):
    said = read(clip({"hidden_act": text}, {"hidden_act": vision}))
    assert (said.config.activation, said.config.text_activation) == expected
    assert (said.activation_from, said.warnings) == ("config.json", [])


def test_an_activation_that_is_not_said_is_warned_about():
    content = clip({"hidden_act": "quick_gelu"})
    del content["vision_config"]["hidden_act"]
    said = read(content)
    assert said.config.activation == "quick_gelu"
    assert said.activation_from == "the default of transformers"
    assert "does not say hidden_act" in said.warnings[0]
    said = read(content, Options(activation="gelu"))
    assert (said.config.activation, said.config.text_activation) == ("gelu", None)
    assert (said.activation_from, said.warnings) == ("the command line", [])


def test_an_activation_against_the_source_is_warned_about():
    said = read(clip({"hidden_act": "quick_gelu"}), Options(activation="gelu"))
    assert (said.config.activation, said.config.text_activation) == ("gelu", None)
    assert "activation gelu as you chose it, where config.json says" in said.warnings[0]
    assert read(clip(), Options(activation="gelu")).warnings == []


def test_the_old_form_of_openai_s_folders_says_its_activation():
    # There the older dictionary has a few sizes, and the newer one everything.
    content = clip({"hidden_act": "quick_gelu", "eos_token_id": 2}, {"hidden_act": "quick_gelu"})
    said = read({**content, "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12}})
    assert (said.config.text.width, said.config.activation, said.warnings) == (768, "quick_gelu", [])


def test_code_that_comes_with_a_plain_clip_model_is_not_looked_at():
    content = clip(auto_map={"AutoModel": "modeling_evil.Evil"}, torch_dtype="float16", unknown=[1])
    assert read(content).config == read(clip()).config


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "an unnamed model .model_type None"),
        (clip(architectures=["CLIPTextModel"]), "CLIPTextModel .*image tower and both projections"),
        (clip(architectures=["CLIPVisionModelWithProjection"]), "the text tower is missing"),
        (clip(architectures=["CLIPForImageClassification"]), "a fixed list of classes"),
        (clip(architectures=["LongCLIPModel"], auto_map={"AutoModel": "long.LongCLIPModel"}), "LongCLIPModel .*code"),
        ({"model_type": "clip", "auto_map": {"AutoModel": "a.B"}}, "an unnamed model"),
        ({"model_type": "clip_text_model", "architectures": ["CLIPTextModel"]}, "image tower and both projections"),
        ({"model_type": "clip_vision_model"}, "the text tower is missing"),
        ({"model_type": "clipseg", "architectures": ["CLIPSegModel"]}, "CLIPSegModel .*computed by transformers"),
        ({"model_type": "blip-2", "architectures": ["Blip2Model"]}, "texts are embedded by a language model"),
        ({"model_type": "xclip", "architectures": ["XCLIPModel"]}, "a model of videos"),
        ({"model_type": "jina_clip", "architectures": ["JinaCLIPModel"]}, "code of its own, which is never run"),
        (
            {
                "model_type": "jina_clip",
                "architectures": ["JinaCLIPModel"],
                "auto_map": {"AutoModel": "a/b--c.JinaCLIPModel"},
            },
            "'a/b--c.JinaCLIPModel', as auto_map says, .* never run.*model pull ViT-L-16-SigLIP2-512:webli",
        ),
        (clip(architectures=["CLIPVisionModel"], auto_map={"AutoModel": "a.B"}), "the text tower is missing"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "BertModel .model_type 'bert'"),
        ({"model_type": ["clip"], "architectures": [{}]}, r"model_type \['clip'\]"),
        (clip(quantization_config={"bits": 4}), "quantization_config"),
        (clip({"hidden_act": "relu"}), "text_config.hidden_act is 'relu'; there are only quick_gelu"),
        (clip({}, {"hidden_act": None}), "vision_config.hidden_act: "),
        (clip({"eos_token_id": 49406}), "eos_token_id is 49406.*49407"),
        (clip({"vocab_size": 1024}), "eos_token_id is 49407.*1023"),
        (clip({"eos_token_id": [49407]}), "text_config.eos_token_id: "),
        (clip({}, {"num_channels": 1}), "num_channels is 1"),
        (clip({}, {"image_size": [224, 192]}), r"image_size is \[224, 192\]: only squares"),
        (clip({}, {"image_size": []}), "only squares"),
        (clip({}, {"patch_size": [16, 32]}), "patch_size"),
        (clip({}, {"image_size": 225}), "vision_config: .*image_size 225 is not a multiple of patch_size 32"),
        (clip({"num_attention_heads": 7}), "text_config: .*width 512 is not a multiple of heads 7"),
        (clip({"num_hidden_layers": 10**9}), "text_config.num_hidden_layers: .*256"),
        (clip({}, {"num_hidden_layers": -1}), "vision_config.num_hidden_layers: "),
        (clip({}, {"hidden_size": 2**70}), "vision_config.hidden_size: "),
        (clip({"hidden_size": "512"}), "text_config.hidden_size: "),
        (clip({"hidden_size": 512.5}), "text_config.hidden_size: "),
        (clip({"num_attention_heads": True}), "text_config.num_attention_heads: "),
        (clip({"num_attention_heads": 0}), "text_config.num_attention_heads: "),
        (clip({"layer_norm_eps": None}), "text_config.layer_norm_eps: "),
        (clip({"layer_norm_eps": 0}), "text_config.layer_norm_eps: "),
        (clip({"intermediate_size": 10**9}), "text_config.intermediate_size: "),
        (clip({"max_position_embeddings": 10**9}), "text_config.max_position_embeddings: "),
        (clip({"vocab_size": 10**9, "eos_token_id": 2}), "text_config.vocab_size: "),
        (clip({}, {"patch_size": 0}), "vision_config.patch_size: "),
        (clip(projection_dim=0), "projection_dim: "),
        (clip(projection_dim="wide"), "projection_dim: "),
        (clip() | {"text_config": [1]}, "text_config: "),
        (clip() | {"text_config_dict": "x"}, "text_config: "),
    ],
)
def test_what_is_no_clip_model_of_ours_is_refused(content: dict[str, Any], reason: str):
    with pytest.raises(CheckpointError, match=f"config.json.*{reason}"):
        read(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "holds a list, not an object"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"model_type": 1' + b"0" * 5000 + b"}", "is not JSON"),
        (b'{"model_type": "clip", "text_config": {"layer_norm_eps": NaN}}', "layer_norm_eps"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        transformers.read_folder(tmp_path, Options())


def test_a_huge_model_without_its_weights_is_refused_before_it_is_built(tmp_path: Path):
    layers = {"num_hidden_layers": 256, "hidden_size": 16384, "num_attention_heads": 1}
    (tmp_path / "config.json").write_text(json.dumps(clip(layers, layers)))
    with pytest.raises(CheckpointError, match="has no weights"):
        transformers.read_folder(tmp_path, Options())
    save_file({"logit_scale": torch.zeros(())}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"the weights have no text_model\.embeddings\.token_embedding\.weight"):
        transformers.read_folder(tmp_path, Options())
