"""The section `text`: a fresh text tower of a preset over the image tower of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from model.bundle import Bundle
from model.config import load_preset
from model.network import build_network
from model.tokenizers.clip import Tokenizer
from tests.training.conftest import further, write_config
from tests.training.test_loop import TINY_SIGLIP
from training.__main__ import app
from training.config import ConfigError, load_config
from training.initial_model import build_initial_model
from training.loop.setup import setup
from training.run import train_and_export
from training.text_towers import fresh_text_tower

PRESET = "sightword-small"


def test_a_fresh_text_tower_learns_over_the_image_tower_of_a_start(colours: Path, tiny: Path, tmp_path: Path) -> None:
    changes = further(tiny, text={"preset": PRESET}, lock={"image": 1}, weights_dtype="float32")
    config = load_config(write_config(tmp_path, **changes))
    fresh, start = (
        build_initial_model(config),
        build_initial_model(load_config(write_config(tmp_path, **further(tiny)))),
    )
    text = load_preset(PRESET).text
    assert fresh.network.config.text == text
    assert fresh.network.config.embed_dim == start.network.config.embed_dim != load_preset(PRESET).embed_dim
    assert isinstance(fresh.tokenizer, Tokenizer)
    assert (fresh.tokenizer.vocab_size, fresh.tokenizer.context_length) == (text.vocab_size, text.context_length)

    bundle = train_and_export(config, colours, tmp_path / "run")
    assert bundle is not None
    trained, visual = setup(config, tmp_path / "run", colours).network, start.network.visual.state_dict()
    assert all(torch.equal(tensor, visual[name]) for name, tensor in trained.visual.state_dict().items())
    before = fresh.network.state_dict()
    moved = [name for name, tensor in trained.state_dict().items() if not torch.equal(tensor, before[name])]
    assert "token_embedding.weight" in moved
    assert not any(name.startswith("visual.") for name in moved)
    assert bundle.manifest.config.text == text
    assert bundle.manifest.source["text"] == {"preset": PRESET}
    assert bundle.manifest.source["from_digest"] == Bundle.load(tiny).digest
    shown = CliRunner().invoke(app, ["train", "--config", str(write_config(colours, **changes)), "--dry-run"])
    assert f"from {tiny} with the text tower of {PRESET}" in shown.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"preset": PRESET}, r"text\.preset: it goes over the image tower of a start, and there is none"),
        ({"alignment_layers": 1}, "text: name one: preset, a fresh text tower, or frozen"),
        ({"preset": PRESET, "frozen": "minilm"}, "text: name one"),
        ({"preset": PRESET, "alignment_layers": 2}, "alignment_layers: they are on a frozen text tower"),
        ({"preset": "sightword-smal"}, r"no preset 'sightword-smal' \(did you mean sightword-small"),
    ],
)
def test_what_is_no_text_tower_is_refused_by_its_field(tmp_path: Path, text: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(tmp_path, text=text))


def test_the_image_tower_of_siglip_has_no_other_text_tower() -> None:
    with pytest.raises(ConfigError, match=r"text\.preset: the image tower of tiny-siglip is SigLIP's, which goes with"):
        fresh_text_tower(build_network(TINY_SIGLIP), PRESET)
