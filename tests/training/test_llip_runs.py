"""Runs with Llip: what they learn, export and begin with, in chunks, resumed, evaluated, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from model.bundle import Bundle, bundled
from model.checkpoints.networks import load_network
from model.config import MixtureConfig, ModelConfig
from model.embedder import Embedder
from model.network import CLIP
from tests.training.conftest import TINY, assert_same_bits, export_tiny, further, write_config
from tests.training.test_llip import network_of, unit
from tests.training.test_loop import KILLED, losses
from training.__main__ import app
from training.config import ConfigError, load_config
from training.evaluation.linear_probe import single_vectors
from training.loop.setup import setup
from training.run import train_and_export

VIT = {"model": "sightword-small-vit"}
LLIP: dict[str, Any] = {"kind": "llip", "llip": {"tokens": 3, "heads": 2}}
DIM = TINY.embed_dim


@pytest.fixture(scope="module")
def llip_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny network with three vectors a picture."""
    network = network_of(MixtureConfig(tokens=3, heads=2))
    return export_tiny(network, tmp_path_factory.mktemp("llip"))


def test_a_run_learns_exports_evaluates_and_is_trained_further(colours: Path, tiny: Path, tmp_path: Path) -> None:
    changes = further(tiny, objective=LLIP, steps=40, evaluate_every=20, ema_decay=0.8)
    changes["optimizer"] = {"learning_rate": 5e-3, "warmup_steps": 4}
    bundle = train_and_export(load_config(write_config(colours, **changes)), colours, tmp_path / "run")
    assert bundle is not None
    assert bundle.mixture == MixtureConfig(tokens=3, heads=2)
    assert bundle.logit_bias is not None
    assert "3 vectors of a picture, mixed for each text" in (bundle.path / "MODEL_CARD.md").read_text()
    assert bundle.manifest.scores["colours"]["value"] > 0.5  # chance is 0.25
    learned = load_network(bundle)
    assert learned.mixture is not None
    assert (learned.mixture.value - torch.eye(DIM)).abs().max() > 1e-3
    data = "--data", f"{colours}/test-*.tar", "--train", f"{colours}/train-*.tar"
    done = CliRunner().invoke(
        app,
        ["evaluate", str(bundle.path), "--task", "zeroshot", "--task", "linear-probe", *data],
    )
    assert done.exit_code == 0, done.output
    assert "linear probe" in done.output
    again = load_config(write_config(colours, **further(bundle.path, objective=LLIP, steps=2, evaluate_every=2)))
    trainer = setup(again, tmp_path / "further", colours)
    trainer.fit()
    assert trainer.state.start_score is not None
    assert trainer.state.start_score > 0.4


def test_the_hold_out_is_scored_as_the_bundle_answers(colours: Path, llip_bundle: Path, tmp_path: Path) -> None:
    config = load_config(write_config(colours, **further(llip_bundle, objective=LLIP)))
    trainer = setup(config, tmp_path / "run", colours)
    network = load_network(Bundle.load(llip_bundle))
    score, _ = trainer.holdout.score(network)
    embedder, hits = Embedder.load(llip_bundle, "cpu"), []
    labels = sorted({sample.annotation.label or "" for _, sample in trainer.data.holdout})
    texts = embedder.embed_texts([config.templates[0].format(label) for label in labels])
    for _, sample in trainer.data.holdout:
        [scores] = embedder.cosines(embedder.embed_images([sample.image]), texts)
        hits.append(labels[int(scores.argmax())] == sample.annotation.label)
    assert score == pytest.approx(np.mean(hits))


def test_a_bundle_of_one_vector_begins_nearly_as_it_was(colours: Path, tiny: Path, tmp_path: Path) -> None:
    """The new tokens are its class token, but for a little."""
    config = load_config(write_config(colours, **further(tiny, objective=LLIP)))
    grown = setup(config, tmp_path / "run", colours).network
    plain = load_network(Bundle.load(tiny))
    assert isinstance(grown, CLIP)
    pixels, ids = torch.randn(6, 3, 32, 32), torch.randint(1, 1000, (8, 9))
    with torch.no_grad():
        expected, found = plain.cosines(*plain(pixels, ids)), grown.cosines(*grown(pixels, ids))
    assert grown.visual.mixture_tokens is not None
    assert grown.visual.mixture_tokens.shape == (2, 32)
    assert 1e-4 < (found - expected).abs().max() < 0.2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_killed_run_goes_on_to_the_same_bits(
    colours: Path, llip_bundle: Path, tmp_path: Path, precision: str
) -> None:
    settings = {
        "steps": 8, "evaluate_every": 4, "checkpoint_every": 3, "precision": precision, "patch_dropout": 0.5,
        "accumulate": 2, "gradient_checkpointing": True, "objective": LLIP,
    }  # fmt: skip
    file = write_config(tmp_path, **further(llip_bundle, **settings))
    whole = setup(load_config(file), tmp_path / "whole", colours)
    whole.fit()
    arguments = [str(file), str(tmp_path / "killed"), str(colours)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = setup(load_config(file), tmp_path / "killed", colours)
    assert resumed.state.step == 3
    resumed.fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")
    assert {"mixture.query", "visual.mixture_tokens"} <= load_file(tmp_path / "whole/best.safetensors").keys()
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_chunks_of_a_batch_have_the_gradients_of_the_whole(colours: Path, llip_bundle: Path, tmp_path: Path) -> None:
    def moments(name: str, **changes: Any) -> dict[str, Tensor]:
        settings = further(llip_bundle, objective=LLIP, steps=2, evaluate_every=2, **changes)
        setup(load_config(write_config(colours, **settings)), tmp_path / name, colours).fit()
        state = load_file(tmp_path / name / "checkpoints" / "step-000002" / "optimizer.safetensors")
        return {key: tensor for key, tensor in state.items() if key.endswith("exp_avg")}

    whole, chunks = moments("whole"), moments("chunks", accumulate=4)
    for name, tensor in whole.items():
        torch.testing.assert_close(chunks[name], tensor, rtol=0, atol=1e-4 * float(tensor.abs().max()) + 1e-6)


def test_a_picture_that_is_not_finite_is_named(colours: Path, llip_bundle: Path, tmp_path: Path) -> None:
    trainer = setup(
        load_config(write_config(colours, **further(llip_bundle, objective=LLIP))), tmp_path / "run", colours
    )
    unit_, inputs = trainer.unit, trainer.loader.load(0)
    batch = unit_.batch_of(inputs)
    image, text = unit_.encoder.forward(inputs)
    before = unit_.copy_loss_parameters()
    assert unit_.network.mixture is not None
    unit_.network.mixture.query.data.fill_(float("nan"))
    image[3, 1, 0] = float("nan")
    assert unit_.suspects((image, text), batch, before).tolist() == [batch.items[3]]
    assert unit_.network.mixture.query.isfinite().all()


def test_a_probe_learns_from_the_mean_of_the_vectors() -> None:
    vectors = unit(4, 3, 8).numpy()
    single = single_vectors(vectors)
    expected = [sum(image) / np.linalg.norm(sum(image)) for image in vectors]
    np.testing.assert_allclose(single, expected, rtol=1e-6)
    assert single_vectors(single) is single


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "llip"}, "objective.llip: sightword-small: .*image tower of kind resnet has no mixture tokens"),
        (
            {"model": "sightword-small-vit", "objective": {"kind": "llip", "llip": {"heads": 3}}},
            "multiple of the 3 heads",
        ),
        ({"objective": {"llip": {"tokens": 4}}}, "llip is of another kind than contrastive"),
        ({"objective": {"kind": "sigmoid", "llip": {"tokens": 4}}}, "llip is of another kind than sigmoid"),
        (
            {"model": "sightword-small-vit", "objective": {"kind": "llip", "llip": {"tokens": 0}}},
            "objective.llip.tokens",
        ),
        ({"model": "sightword-small-vit", "objective": {"kind": "llip", "teacher": "x"}}, "objective.*: teacher: its"),
    ],
)
def test_what_cannot_be_mixed_is_refused(colours: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(colours, **changes))


def test_a_teacher_whose_pictures_are_mixed_is_refused(
    colours: Path, tiny: Path, llip_bundle: Path, tmp_path: Path
) -> None:
    objective = {"kind": "sigmoid", "teacher": str(llip_bundle)}
    config = load_config(write_config(colours, **further(tiny, objective=objective)))
    with pytest.raises(ConfigError, match=r"objective\.teacher: tiny has 3 vectors of a picture"):
        setup(config, tmp_path, colours)


@pytest.mark.parametrize(
    ("start", "objective", "message"),
    [
        (str(bundled()), LLIP, "objective.llip: sightword-small: .*kind resnet"),
        ("llip", {"kind": "llip", "llip": {"tokens": 5, "heads": 2}}, r"was trained with \{tokens: 3, heads: 2, temp"),
        ("llip", {"kind": "sigmoid"}, "objective.kind: tiny has several vectors of a picture.*set it to llip"),
        ("llip", {"kind": "contrastive"}, "set it to llip"),
    ],
)
def test_a_start_that_does_not_suit_is_refused(
    colours: Path, llip_bundle: Path, tmp_path: Path, start: str, objective: dict[str, Any], message: str
) -> None:
    bundle = llip_bundle if start == "llip" else Path(start)
    stages = [{"start": 0, "pixels": 32}]
    config = load_config(write_config(colours, **further(bundle, objective=objective, stages=stages)))
    with pytest.raises(ConfigError, match=message):
        setup(config, tmp_path, colours)


def test_a_preset_gets_the_tokens_of_the_configuration(colours: Path, tmp_path: Path) -> None:
    objective = {"kind": "llip", "llip": {"tokens": 4, "heads": 2, "temperature": 3.0}}
    network = setup(load_config(write_config(colours, **VIT, objective=objective)), tmp_path / "run", colours).network
    assert network.config.mixture == MixtureConfig(tokens=4, heads=2, temperature=3.0)
    assert network.encode_image(torch.zeros(1, 3, 96, 96)).shape == (1, 4, 256)
    assert network.mixture is not None
    assert network.mixture.scale == 256 / 3.0
    alone = setup(load_config(write_config(colours, **VIT, objective="llip")), tmp_path / "alone", colours)
    assert alone.network.config.mixture == MixtureConfig()
    assert ModelConfig.model_validate(json.loads(alone.network.config.model_dump_json())) == alone.network.config
