"""The architecture of a file of weights, as the user says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.openai import read_state
from model.commands.convert import read_architecture
from tests.model.checkpoints.openclip.models import vary
from tests.model.conftest import TINY_RESNET, random_network


def test_a_preset_does_not_tell_the_activation_of_the_weights() -> None:
    state, preset = random_network(TINY_RESNET).state_dict(), TINY_RESNET
    warning = read_state(state, Options(architecture=preset, preset=True), "x").warnings[0]
    assert "activation gelu is assumed" in warning
    assert not any("activation" in warning for warning in read_state(state, Options(architecture=preset), "x").warnings)
    for told, chosen in (("gelu", None), (None, "gelu")):
        options = Options(activation=chosen, architecture=preset, preset=True)
        assert not any("activation" in warning for warning in read_state(state, options, "x", told).warnings)


def test_the_command_tells_a_preset_from_a_configuration(tmp_path: Path) -> None:
    cfg = vary(act := {"act_kwargs": {"approximate": "tanh"}})
    mean = {"mean": [0.5, 0.5, 0.5], "resize_mode": "squash", "size": 4000}
    (tmp_path / "both.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": mean}))
    (tmp_path / "bare.json").write_text(json.dumps(cfg))
    assert read_architecture("ViT-B-32", Options()).preset
    both = read_architecture(str(tmp_path / "both.json"), Options())
    assert both.architecture
    assert not both.preset
    state = random_network(both.architecture).state_dict()
    checkpoint = read_state(state, both, "x")
    assert (checkpoint.config.activation, checkpoint.config.text_activation) == ("gelu_tanh", "gelu")
    assert (checkpoint.preprocessing.mean, checkpoint.preprocessing.resize_mode) == ((0.5,) * 3, "squash")
    assert checkpoint.preprocessing.size == 48
    bare = read_state(state, read_architecture(str(tmp_path / "bare.json"), Options()), "x")
    assert bare.source["preprocessing_from"] == "OpenAI's release"
    (tmp_path / "own.json").write_text(json.dumps(vary(act, {"hf_tokenizer_name": "someone/tokenizer"})))
    with pytest.raises(CheckpointError, match=r"own\.json: text_cfg\.hf_tokenizer_name is 'someone/tokenizer'"):
        read_architecture(str(tmp_path / "own.json"), Options())
    (tmp_path / "tower.json").write_text(json.dumps(vary(act, {"hf_model_name": "someone/tower"})))
    library = read_architecture(str(tmp_path / "tower.json"), Options()).library_architecture  # which open_clip builds
    assert library
    assert "hf_model_name" in library.refusal
