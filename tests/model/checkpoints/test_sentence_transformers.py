"""Folders of sentence-transformers: which model they have inside, and what surrounds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from model.checkpoints.checkpoint import Checkpoint, CheckpointError, Options
from model.checkpoints.importer import read_checkpoint
from model.checkpoints.networks import to_network
from model.checkpoints.sentence_transformers import find_model
from tests.model.checkpoints.transformers.clip_models import (
    clip_tokenizer,
    random_model,
    save,
    small_text,
    small_vision,
)

CLIP = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
ROOT = {**CLIP, "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
NORMALIZE = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}


@pytest.fixture(scope="module")
def model() -> Any:
    return random_model(small_text(), small_vision())


def write(model: Any, folder: Path, modules: list[dict[str, Any]], **files: Any) -> Path:
    """A folder of sentence-transformers with the CLIPModel where its first module says."""
    inner = folder / modules[0]["path"]
    inner.mkdir(parents=True)
    save(model, inner, clip_tokenizer(1024))
    (folder / "modules.json").write_text(json.dumps(modules))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("modules", "warned"), [([CLIP], 1), ([ROOT, NORMALIZE], 0)])
def test_the_outer_folder_is_imported(model: Any, tmp_path: Path, modules: list[dict[str, Any]], warned: int) -> None:
    folder = write(model, tmp_path / "clip-ViT-tiny", modules)
    read = read_checkpoint(folder, Options())
    assert isinstance(read, Checkpoint)
    assert (read.config.name, read.source["format"]) == ("clip-ViT-tiny", "sentence-transformers folder")
    assert len(read.warnings) == warned
    assert all("cosines are the same" in warning for warning in read.warnings)


def test_the_vectors_are_those_of_its_module(model: Any, tmp_path: Path) -> None:
    folder = write(model, tmp_path / "model", [CLIP])
    read = read_checkpoint(folder, Options())
    assert isinstance(read, Checkpoint)
    texts = ["a dog", "two cats on a wall"]
    given = clip_tokenizer(1024)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():  # what sentence-transformers calls
        output = model.text_model(input_ids=given.input_ids, attention_mask=given.attention_mask)
        theirs = model.text_projection(output[1])
        ours = to_network(read).encode_text(torch.from_numpy(read.tokenizer.pad(read.tokenizer.encode(texts))))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_prompt_that_it_would_write_is_told(model: Any, tmp_path: Path) -> None:
    prompts = {"prompts": {"photo": "a photo of "}, "default_prompt_name": "photo"}
    found = find_model(write(model, tmp_path / "model", [ROOT, NORMALIZE], config_sentence_transformers=prompts))
    assert found is not None
    assert "puts 'a photo of ' before each text" in found.warnings[0]


def test_models_of_texts_alone_are_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}))
    modules = [{**ROOT, "type": "sentence_transformers.models.Transformer"}, POOLING, DENSE]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=r"distilbert with Transformer, Pooling, Dense.*clip-ViT-B-32; for texts"):
        read_checkpoint(tmp_path, Options())


def test_what_changes_the_vectors_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has Dense behind the model.*name .*0_CLIPModel"):
        find_model(write(model, tmp_path / "dense", [CLIP, DENSE]))
    methods = {"text": {"method": "forward"}, "image": {"method": "get_image_features"}}
    folder = write(model, tmp_path / "methods", [ROOT], sentence_bert_config={"modality_config": methods})
    with pytest.raises(CheckpointError, match="has forward for text"):
        find_model(folder)


@pytest.mark.parametrize(
    "content",
    ["[", "{}", "[1]", '[{"type": 1, "path": ""}]', '[{"type": "a", "path": "../x"}]', "[" * 100_000, str([0] * 99)],
)
def test_malformed_lists_of_modules_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        find_model(tmp_path)


def test_other_folders_are_left_to_others(tmp_path: Path) -> None:
    assert find_model(tmp_path) is None
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "custom_st.Transformer", "path": ""}]))
    assert find_model(tmp_path) is None
    (tmp_path / "modules.json").write_text(json.dumps([{**ROOT, "type": "sentence_transformers.models.Router"}]))
    with pytest.raises(CheckpointError, match="begins with Router"):
        find_model(tmp_path)
