"""Dual encoders of transformers that our networks do not compute: held against transformers' own outputs."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from benchmarks.transformers_classes.classes import REFUSED, dual_encoders, refusal
from benchmarks.transformers_classes.compare import differences, features, save
from benchmarks.transformers_classes.models import SPECS
from benchmarks.transformers_classes.tokenizers import TEXTS, bert
from model.checkpoints.checkpoint import CheckpointError, LibraryCheckpoint, Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from tests.model.checkpoints.transformers import clip_models

# One for each way in which texts are read and weights are named; the others are walked by the benchmark.
UNEXPORTED = {
    "Aimv2Model": "causal only with a mask",
    "AlignModel": "a temperature, and pictures of any size",
    "BlipForImageTextRetrieval": "no method of its own",
    "FlavaModel": "features of every token",
    "OwlViTModel": "padding that texts may have",
    "VisionTextDualEncoderModel": "weights under other names",
}


@pytest.fixture(scope="module")
def altclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mask, and positions that begin behind the id of the padding."""
    folder = tmp_path_factory.mktemp("altclip") / "model"
    save(transformers, "AltCLIPModel", False, folder)
    return folder


def changed(folder: Path, to: Path, **fields: Any) -> Path:
    """The folder with other fields in its config.json."""
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).symlink_to(file)
    content = json.loads((folder / "config.json").read_text())
    (to / "config.json").unlink()
    (to / "config.json").write_text(json.dumps({**content, **fields}))
    return to


@pytest.mark.parametrize("name", ["AltCLIPModel", "CLIPSegForImageSegmentation", "Tipsv2Model"])
def test_a_bundle_embeds_as_the_original_does(tmp_path: Path, name: str) -> None:
    model, images, processor = save(transformers, name, False, tmp_path / "model")
    bundle, warnings = import_checkpoint(tmp_path / "model", tmp_path / "bundle", Options())
    has_head = name == "CLIPSegForImageSegmentation"
    assert any("is CLIPSegModel with more behind it" in warning for warning in warnings) == has_head == bool(warnings)
    # Pictures by its own processor, texts of many scripts and lengths in one batch by its own tokenizer.
    picture, text, cosine = differences(model, images, processor, bundle)
    assert max(picture, text) < 1e-5
    assert cosine > 0.99999
    config = bundle.manifest.config
    assert (config.text.context_length, config.text.fixed_length) == {  # type: ignore[union-attr]
        "AltCLIPModel": (38, False),
        "CLIPSegForImageSegmentation": (40, False),
        "Tipsv2Model": (40, True),  # its tokenizer writes nothing around a text: of an empty one there is no row
    }[name]


@pytest.mark.parametrize("name", UNEXPORTED)
def test_a_network_embeds_as_the_original_does(tmp_path: Path, name: str) -> None:
    model, _, processor = save(transformers, name, False, tmp_path)
    read = read_checkpoint(tmp_path, Options())
    assert isinstance(read, LibraryCheckpoint)
    size, config = read.preprocessing.size, read.network.config
    lengths = {"padding": "max_length", "truncation": True, "max_length": config.text.context_length}
    given = processor(text=list(TEXTS), return_tensors="pt", **lengths)
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    rows = [read.tokenizer.truncate(row) for row in read.tokenizer.encode(list(TEXTS))]
    with torch.no_grad():
        ours = read.network(pixels, torch.from_numpy(read.tokenizer.pad(rows)))
        theirs = features(model, pixels, given)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - F.normalize(other, dim=-1)).abs().max() < 1e-5
    scale = model.temperature.log().neg() if name == "AlignModel" else getattr(model, "logit_scale", torch.zeros(()))
    assert read.network.logit_scale == pytest.approx(scale.item())


def test_a_clip_with_another_tokenizer_is_built_by_transformers(tmp_path: Path) -> None:
    save(transformers, "CLIPModel", False, tmp_path)
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink(missing_ok=True)
    bert(tmp_path).save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["text_config"]["eos_token_id"] = 3  # [SEP], at which a text is pooled
    (tmp_path / "config.json").write_text(json.dumps(content))
    read = read_checkpoint(tmp_path, Options())
    assert isinstance(read, LibraryCheckpoint)
    theirs = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    given = transformers.AutoTokenizer.from_pretrained(tmp_path)(list(TEXTS[:3]), padding=True, return_tensors="pt")
    rows = torch.from_numpy(read.tokenizer.pad(read.tokenizer.encode(TEXTS[:3])))
    with torch.no_grad():
        expected = theirs.get_text_features(given.input_ids, given.attention_mask).pooler_output
        torch.testing.assert_close(read.network.encode_text(rows), expected, atol=1e-5, rtol=1e-5)


def test_what_neither_computes_is_refused_with_both_reasons(tmp_path: Path) -> None:
    model = clip_models.random_model(clip_models.small_text(eos_token_id=5), clip_models.small_vision())
    clip_models.save(model, tmp_path, clip_models.clip_tokenizer(1024))
    assert isinstance(read_checkpoint(tmp_path, Options()), LibraryCheckpoint)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"eos_token_id is 5, .*; and by transformers itself: .*no tokenizer"):
        read_checkpoint(tmp_path, Options())


def test_other_names_and_what_trainers_put_around_them_are_read(altclip: Path, tmp_path: Path) -> None:
    state = load_file(altclip / "model.safetensors")
    older = {name.replace("encoder.layer.", "encoder.layers."): tensor for name, tensor in state.items()}
    assert older.keys() != state.keys()
    older["text_model.roberta.embeddings.position_ids"] = torch.arange(40)[None]
    folder = changed(altclip, tmp_path / "older")
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": {f"module.{name}": t for name, t in older.items()}}, folder / "pytorch_model.bin")
    first, second = (read_checkpoint(each, Options()) for each in (altclip, folder))
    assert isinstance(first, LibraryCheckpoint)
    assert isinstance(second, LibraryCheckpoint)
    assert second.source["unwrapped"] == "the dictionary ['state_dict'], names without 'module.'"
    assert not second.warnings
    expected = first.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in second.network.state_dict().items())


def test_every_dual_encoder_of_transformers_is_imported_or_refused_by_name(tmp_path: Path) -> None:
    assert dual_encoders() <= {*SPECS, *REFUSED}
    reasons = {name: refusal(name, tmp_path)["reason"] for name in REFUSED}
    assert all(" can be imported" in reason for reason in reasons.values())
    assert "NaFlex" in reasons["Siglip2Model"]
    assert "a model of videos" in reasons["XCLIPModel"]


def spoil(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoiled(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        (folder / "model.safetensors").unlink()
        save_file(state, folder / "model.safetensors")

    return spoiled


PROJECTION = "visual_projection.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (spoil(lambda state: state.pop(PROJECTION)), r"model\.safetensors: 1 tensors are missing: visual_projection"),
        (spoil(lambda state: state[PROJECTION].fill_(torch.nan)), "values that are not finite"),
        (spoil(lambda state: state.update({PROJECTION: torch.ones(2, 2)})), r"has shape \[2, 2\]"),
        (spoil(lambda state: state.update({PROJECTION: torch.ones(24, 32, dtype=torch.int8)})), "quantised"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer|has neither"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    ],
)
def test_spoiled_files_are_refused(altclip: Path, tmp_path: Path, change: Callable[[Path], None], reason: str) -> None:
    folder = changed(altclip, tmp_path / "spoiled")
    change(folder)
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(folder, Options())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"vision_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers is 1000000000: no network has that"),
        ({"vision_config": {"hidden_size": 8192, "num_attention_heads": 8}}, "parameters, and .* differ"),
        ({"vision_config": {"hidden_size": "wide"}}, r"config\.json"),
        ({"text_config": [1]}, r"config\.json"),
        ({"model_type": "bert"}, r"config\.json"),
        ({"model_type": "unheard-of"}, "is none of transformers"),
        ({"nested": [[[[[[[[1]]]]]]]]}, "deeper ones"),
        ({"quantization_config": {}}, "quantization_config"),
        ({"architectures": ["VisionTextDualEncoderModel"], "model_type": "vision-text-dual-encoder"}, "must be one of"),
    ],
)
def test_impossible_configurations_are_refused(altclip: Path, tmp_path: Path, fields: Any, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        read_checkpoint(changed(altclip, tmp_path / "changed", **fields), Options())


def test_nothing_that_a_configuration_names_is_run_or_fetched(
    altclip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def refuse(*address: Any, **options: Any) -> None:
        asked.append(address)
        raise OSError("there is no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    evil = {"auto_map": {"AutoModel": "evil.Model"}, "_attn_implementation": "someone/kernels:evil"}
    content = json.loads((altclip / "config.json").read_text())
    inner = {**content["vision_config"], **evil, "attn_implementation": "someone/kernels"}
    folder = changed(altclip, tmp_path / "model", **evil, vision_config=inner, _name_or_path="someone/model")
    assert isinstance(read_checkpoint(folder, Options()), LibraryCheckpoint)
    assert not asked


def test_options_that_it_has_no_use_for_are_not_passed_over_in_silence(altclip: Path) -> None:
    with pytest.raises(CheckpointError, match="leave --image-size"):
        read_checkpoint(altclip, Options(image_size=64))
    assert "is passed over" in read_checkpoint(altclip, Options(activation="gelu")).warnings[0]
