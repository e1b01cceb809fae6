"""Which files make a model, in each of the layouts in which models are published."""

from __future__ import annotations

import pytest

from model.hub.errors import HubError
from model.hub.layouts import select_files
from model.hub.names import Repository, published_model
from model.hub.remote_code import describe_remote_code

PLAIN = Repository("org/name")
TOKENIZER = ["tokenizer.json", "tokenizer_config.json"]
IMMICH = [
    "config.json", "visual/preprocess_cfg.json", "visual/model.onnx", "textual/model.onnx",
    "textual/tokenizer.json", "textual/tokenizer_config.json",
]  # fmt: skip
JINA = {
    "architectures": ["JinaCLIPModel"],
    "auto_map": {"AutoModel": "jinaai/jina-clip-implementation--modeling_clip.JinaCLIPModel"},
    "model_type": "jina_clip",
}


def chosen(available: list[str], repository: Repository = PLAIN, **fields: str) -> set[str]:
    found = select_files(available, repository, **fields)
    assert len(found) == len(set(found))
    return set(found)


def test_an_export_of_immich_with_its_tensors() -> None:
    tensors = [
        "textual/model.onnx.data", "textual/onnx__MatMul_4853", "textual/Constant_703_attr__value",
        "textual/transformer.encoder.layer.0.output.dense.weight",
    ]  # fmt: skip
    others = [
        "README.md", "visual/model.armnn", "visual/fp16/model.armnn", "rknpu/rk3588/model.rknn", "textual/model.py",
        "textual/..weight", "textual/a/b.weight", "visual/../x.weight", "textual/model.onnx.data/x", "textual/x.pkl",
    ]  # fmt: skip
    assert chosen([*IMMICH, *tensors, *others]) == {*IMMICH, *tensors}
    assert chosen([name for name in IMMICH if name != "config.json"]) == set(IMMICH) - {"config.json"}


def test_an_export_of_transformers_js_in_full_precision() -> None:
    graphs = [
        "onnx/vision_model.onnx",
        "onnx/text_model.onnx",
        "onnx/text_model.onnx_data",
        "onnx/text_model.onnx_data_1",
    ]
    others = ["onnx/vision_model_fp16.onnx", "onnx/text_model_q4.onnx", "onnx/model.onnx", "onnx/text_model.onnx.exe"]
    beside = ["config.json", "preprocessor_config.json", *TOKENIZER]
    assert chosen([*beside, *graphs, *others]) == {*beside, *graphs}


def test_weights_are_preferred_to_what_was_exported_from_them() -> None:
    graphs = ["onnx/vision_model.onnx", "onnx/text_model.onnx", *IMMICH]
    assert chosen([*graphs, "model.safetensors"]) == {"config.json", "model.safetensors"}
    with_open_clip = ["open_clip_config.json", "open_clip_model.safetensors"]
    assert chosen([*graphs, *with_open_clip, "model.safetensors"]) == set(with_open_clip)


def test_half_an_export_is_none() -> None:
    for half in (["config.json", "visual/model.onnx"], ["config.json", "onnx/text_model.onnx"], ["onnx/model.onnx"]):
        with pytest.raises(HubError, match=r"holds no model.*visual/model\.onnx with textual/model\.onnx"):
            select_files(half, PLAIN)


def test_where_weights_need_code_of_their_own_the_export_is_taken_or_nothing() -> None:
    reason = describe_remote_code(JINA)
    assert reason is not None
    files = ["config.json", "model.safetensors", *TOKENIZER]
    graphs = ["onnx/vision_model.onnx", "onnx/text_model.onnx"]
    assert chosen([*files, *graphs], remote_code=reason) == {"config.json", *TOKENIZER, *graphs}
    with pytest.raises(HubError, match=r"org/name cannot be imported: JinaCLIPModel .*pull ViT-L-16-SigLIP2-512"):
        select_files(files, PLAIN, reason)
    open_clip = ["open_clip_config.json", "open_clip_model.safetensors"]
    assert chosen([*files, *open_clip], remote_code=reason) == {*open_clip, *TOKENIZER}


def test_a_clip_inside_a_folder_of_sentence_transformers() -> None:
    inside = ["config.json", "preprocessor_config.json", "vocab.json", "merges.txt"]
    files = ["modules.json", "config_sentence_transformers.json", *(f"0_CLIPModel/{name}" for name in inside)]
    weights = ["0_CLIPModel/model.safetensors", "0_CLIPModel/pytorch_model.bin", "0_CLIPModel/flax.msgpack"]
    assert chosen([*files, *weights, "README.md", "1_Dense/model.bin"]) == {*files, weights[0]}
    assert chosen([*files, weights[1]]) == {*files, weights[1]}


def test_the_one_file_that_open_clip_names() -> None:
    source = published_model("ViTamin-S:datacomp1b").source
    assert isinstance(source, Repository)
    there = ["config.json", "model.py", "pytorch_model.bin", "open_clip_pytorch_model.bin"]
    assert chosen(there, source, remote_code="its code") == {"pytorch_model.bin"}
    assert chosen([*there, "pytorch_model.safetensors"], source) == {"pytorch_model.safetensors"}
    with pytest.raises(HubError, match=r"jienengchen/ViTamin-S has no pytorch_model\.bin any more"):
        select_files(["config.json", "model.safetensors"], source)


def test_open_clips_weights_without_its_configuration_only_of_what_it_lists() -> None:
    source = published_model("nllb-clip-base-siglip:mrl").source
    assert isinstance(source, Repository)
    there = ["config.json", "nllb_mrl.py", "open_clip_pytorch_model.bin", "tokenizer.json"]
    assert chosen(there, source, remote_code="its code") == {"open_clip_pytorch_model.bin", "tokenizer.json"}
    with pytest.raises(HubError, match="holds no model"):
        select_files(there, PLAIN)


def test_a_repository_of_nothing_suggests_what_its_name_is_near() -> None:
    with pytest.raises(HubError, match=r"nearest names of models that can: MobileCLIP-S1:datacompdr"):
        select_files(["mobileclip_s1.pt", "README.md"], Repository("apple/MobileCLIP-S1"))


def test_a_graph_of_very_many_tensors_is_refused() -> None:
    with pytest.raises(HubError, match=r"5000 files of tensors lie beside textual/model\.onnx"):
        select_files([*IMMICH, *(f"textual/onnx__MatMul_{number}" for number in range(5000))], PLAIN)
