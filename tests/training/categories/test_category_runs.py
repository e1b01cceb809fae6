"""Runs on categories: they learn, score themselves, go on with the same bits, and export what they learned."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmarks.service_process import PATIENCE_S, running
from model.bundle import Bundle
from model.checkpoints.networks import load_network
from model.embedder import Embedder
from model.export.graphs import ImageGraph, TextGraph
from model.images.preprocessing import load_image
from tests.training.categories.conftest import SAID, category_config, further_on_categories
from tests.training.conftest import COLOURS, assert_same_bits, picture, write_config
from tests.training.test_distributed import ENVIRONMENT, TORCHRUN, assert_alike
from training.__main__ import app
from training.categories.vocabulary import read_vocabulary
from training.config import ConfigError, load_config
from training.evaluation.category_holdout import mean_average_precision, top_category_is_true, truth_of
from training.initial_model import build_initial_model
from training.loop.setup import setup
from training.plan import plan
from training.run import train_and_export
from training.run_categories import choose_categories
from training.run_folder import CATEGORIES

KILLED = """
import os, sys
from pathlib import Path
from training.config import load_config
from training.loop.setup import setup
trainer = setup(load_config(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]))
class Kill:
    def log(self, record):
        if record["step"] == 3:
            trainer.checkpoints.wait()
            os.kill(os.getpid(), 9)
trainer.loggers = [Kill()]
trainer.fit()
"""


@pytest.fixture(scope="module")
def trained(animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run from a preset."""
    run = tmp_path_factory.mktemp("trained") / "run"
    rate = {"learning_rate": 3e-3, "warmup_steps": 2, "clip_norm": None}
    changes = {"steps": 30, "evaluate_every": 30, "batch_size": 16, "optimizer": rate, "weights_dtype": "float32"}
    rule = {"objective": {"kind": "categories", "categories": {"min_count": 3}}}
    train_and_export(load_config(category_config(animals, **changes, **rule)), animals, run)
    return run


def test_a_run_learns_the_categories_and_exports_them(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    losses = [json.loads(line)["loss"] for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.5 * losses[0]
    embedder = Embedder.load(trained / "bundle")
    names = [each.names[0] for each in read_vocabulary(trained / CATEGORIES).categories]
    assert sorted(names) == sorted(["animal", "dog", "snow", "frog", "pond", "penguin", "sea", "bowl", "lemon"])
    cosines = embedder.cosines(embedder.embed_images([picture(c, 999) for c in COLOURS]), embedder.embed_texts(names))
    for colour, row in zip(COLOURS, cosines, strict=True):
        others = [name for name in names if name != "animal"]
        best = max(others, key=lambda name: row[names.index(name)])
        assert best in SAID[colour], colour
    source = embedder.bundle.manifest.source
    assert "WordNet 3.0, Copyright 2006 by Princeton University" in source["categories"]
    assert source["skipped_items"] == {"no category": 4}
    stored = source["configuration"]["objective"]["categories"]
    assert stored == {"vocabulary": None, "min_count": 3, "max_categories": 20_000, "wordnet": "wordnet"}


def test_what_is_exported_scores_as_the_network_does(trained: Path, animals: Path) -> None:
    bundle = Bundle.load(trained / "bundle")
    vocabulary = read_vocabulary(trained / CATEGORIES)
    config = load_config(category_config(animals))
    network = build_initial_model(config, vocabulary).network.eval()
    network.load_state_dict(load_file(trained / "best.safetensors"))
    embedder = Embedder(bundle)
    images = [picture(colour, 500) for colour in COLOURS]
    ids = torch.arange(1, len(vocabulary) + 1)[:, None]
    pixels = torch.stack([torch.from_numpy(embedder._decode(image).copy()) for image in images])
    mean, std = (torch.tensor(each) for each in (bundle.preprocessing.mean, bundle.preprocessing.std))
    with torch.no_grad():
        image = network.encode_image(((pixels / 255 - mean) / std).permute(0, 3, 1, 2).float())
        cosines = torch.nn.functional.cosine_similarity(image[:, None], network.encode_text(ids)[None], dim=-1)
        logits = network.logit_scale.exp() * cosines + network.logit_bias
    labels = bundle.tokenizer().labels  # type: ignore[attr-defined]
    served = embedder.cosines(embedder.embed_images(images), embedder.embed_texts(list(labels)))
    np.testing.assert_allclose(served, cosines.numpy(), atol=1e-4)
    manifest = bundle.manifest
    assert manifest.logit_bias is not None
    np.testing.assert_allclose(manifest.logit_scale * served + manifest.logit_bias, logits.numpy(), atol=1e-2)


def test_the_bias_begins_at_the_mean_frequency(animals: Path) -> None:
    config = load_config(category_config(animals))
    chosen = choose_categories(config, animals)
    assert chosen is not None
    initial = build_initial_model(config, chosen.vocabulary)
    assert initial.network.logit_bias is not None
    assert float(initial.network.logit_bias.sigmoid()) == pytest.approx(chosen.vocabulary.mean_frequency)
    assert float(initial.network.logit_scale.exp()) == pytest.approx(10)


def test_a_run_that_is_not_finished_is_measured_with_its_own_categories(
    trained: Path, tmp_path: Path, animals: Path
) -> None:
    (tmp_path / "run").mkdir()
    for name in ("config.json", "best.safetensors", CATEGORIES):
        os.link(trained / name, tmp_path / "run" / name)
    (tmp_path / "one").mkdir()
    for label in ("dog", "lemon"):
        (tmp_path / "one" / label).mkdir()
        colour = next(colour for colour in COLOURS if label in SAID[colour])
        (tmp_path / "one" / label / "a.png").write_bytes(picture(colour, 77))
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "one")])
    assert done.exit_code == 0, done.output
    assert "| 2 | 2 |" in done.output
    (tmp_path / "run" / CATEGORIES).unlink()
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "one")])
    assert done.exit_code == 1
    assert f"{CATEGORIES} cannot be read" in " ".join(done.output.split())


def test_a_killed_run_ends_with_the_same_bits(animals: Path, animal_bundle: Path, tmp_path: Path) -> None:
    chunks = {"accumulate": 2, "patch_dropout": 0.25}
    file = write_config(tmp_path, **further_on_categories(animal_bundle, checkpoint_every=2, **chunks))
    setup(load_config(file), tmp_path / "whole", animals).fit()
    command = [sys.executable, "-c", KILLED, str(file), str(tmp_path / "killed"), str(animals)]
    killed = subprocess.run(command, capture_output=True, check=False)  # on as many threads as the one beside it
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = setup(load_config(file), tmp_path / "killed", animals)
    assert resumed.state.step == 2
    resumed.fit()
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")


def test_other_categories_than_the_runs_are_refused_with_the_reason(
    animals: Path, tmp_path: Path, trained: Path
) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    os.link(animals / "train-0.tar", copy / "train-0.tar")
    changes = {"objective": {"kind": "categories", "categories": {"min_count": 3}}}
    config = load_config(category_config(copy, **changes))
    os.link(animals / "train-0.tar", copy / "train-1.tar")  # each twice: fewer synsets are rare
    chosen = choose_categories(config, animals, trained)
    assert chosen is not None
    more = load_config(category_config(copy, objective={"kind": "categories", "categories": {"max_categories": 2}}))
    with pytest.raises(
        ConfigError, match=r"has the 9 categories that this run began with, .* give 2: 7 are gone, such"
    ):
        choose_categories(more, copy, trained)


@pytest.mark.parametrize(
    "changes", [{"accumulate": 2}, {"parallel": "fsdp"}], ids=lambda changes: str(next(iter(changes)))
)
def test_two_processes_learn_what_one_does(
    animals: Path, animal_bundle: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    settings = further_on_categories(animal_bundle)
    setup(load_config(write_config(animals, **settings)), tmp_path / "one", animals).fit()
    file = write_config(animals, **settings, **changes)
    arguments = [
        "-m",
        "training",
        "train",
        "--config",
        str(file),
        "--output",
        str(tmp_path / "two"),
        "--no-tensorboard",
    ]
    done = subprocess.run([*TORCHRUN, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("start", "kind", "message"),
    [
        (
            "animal_bundle",
            "sigmoid",
            "has categories and no text tower, and objective.kind sigmoid learns from captions",
        ),
        ("animal_bundle", "contrastive", "has categories and no text tower"),
        ("tiny", "categories", "has a text tower and no categories"),
    ],
)
def test_a_start_that_does_not_suit_is_refused(
    animals: Path, request: pytest.FixtureRequest, tmp_path: Path, start: str, kind: str, message: str
) -> None:
    bundle = request.getfixturevalue(start)
    config = load_config(write_config(animals, **further_on_categories(bundle) | {"objective": {"kind": kind}}))
    with pytest.raises(ConfigError, match=message):
        setup(config, tmp_path / "run", animals)


def test_a_dry_run_tells_the_categories_and_the_time(animals: Path, animal_bundle: Path) -> None:
    told = plan(load_config(write_config(animals, **further_on_categories(animal_bundle))), animals)
    assert "categories: 9, all of them texts of every batch" in told
    assert "  time: " in told


def test_the_command_prints_the_categories_and_writes_them(animals: Path, tmp_path: Path) -> None:
    file = category_config(animals, objective="contrastive")
    rule = ["--set", "objective.categories.min_count=20", "--shown", "1", "--output", str(tmp_path / "mine.json")]
    done = CliRunner().invoke(app, ["categories", "--config", str(file), *rule])
    assert done.exit_code == 0, done.output
    assert "1 category of 64" in done.output
    assert "| animal | animal.n.01 |" in done.output
    assert "pictures have none of them" in done.output
    assert read_vocabulary(tmp_path / "mine.json").synsets == ("animal.n.01",)
    done = CliRunner().invoke(app, ["categories", "--config", str(file), "--set", "objective=sigmoid"])
    assert done.exit_code == 1
    assert "--set objective: it is categories here" in done.output


def test_the_held_out_score_is_of_the_surest_category(animals: Path, animal_bundle: Path, tmp_path: Path) -> None:
    config = load_config(write_config(animals, **further_on_categories(animal_bundle)))
    trainer = setup(config, tmp_path / "run", animals)
    assert len(trainer.holdout) == len(trainer.data.holdout) > 10
    score, parts = trainer.holdout.score(trainer.network.eval())
    embedder = Embedder.load(animal_bundle)
    names = [each.names[0] for each in read_vocabulary(tmp_path / "run" / CATEGORIES).categories]
    right = []
    for _, sample, categories in trainer.data.holdout.with_categories():
        cosines = embedder.cosines(embedder.embed_images([sample.image]), embedder.embed_texts(names))[0]
        right.append(int(cosines.argmax()) in categories)
    assert score == parts["source 0"] == pytest.approx(np.mean(right))
    assert 0 < parts["mean average precision"] < 1
    assert "held-out top-1 category" in trainer._format_score(score)
    trainer.data.close()


def test_figures_of_the_hold_out_by_hand() -> None:
    truth = truth_of([np.array([0, 2]), np.array([1]), np.array([0])], 4)
    assert truth.astype(int).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    scores = np.array([[0.1, 0.3, 0.9, 0.2], [0.5, 0.5, 0.1, 0.1], [0.8, 0.1, 0.2, 0.3]], np.float32)
    assert top_category_is_true(scores, truth).tolist() == [True, False, True]  # a tie is not right
    # Category 0: the pictures in order 2, 1, 0 of which 2 and 0 have it; 1: the second is first; 2: the first is.
    expected = [(1 + 2 / 3) / 2, 1.0, 1.0]
    assert mean_average_precision(scores, truth) == pytest.approx(np.mean(expected))


def test_everything_that_computes_elsewhere_works_with_categories(
    animals: Path, animal_bundle: Path, tmp_path: Path
) -> None:
    """Half precision, and a locked image tower, of which only the table learns."""
    few = {"steps": 2, "evaluate_every": 2}
    for name, changes in {
        "fp16": {"precision": "fp16", "gradient_checkpointing": True},
        "locked": {"lock": {"image": 1.0}},
    }.items():
        trainer = setup(
            load_config(write_config(animals, **further_on_categories(animal_bundle, **few, **changes))),
            tmp_path / name,
            animals,
        )
        before = {key: value.clone() for key, value in trainer.network.state_dict().items()}
        trainer.fit()
        after = trainer.network.state_dict()
        assert not torch.equal(after["text.embedding.weight"], before["text.embedding.weight"]), name
        assert torch.equal(after["text.embedding.weight"][0], torch.zeros(32)), name
        if name == "locked":
            assert all(torch.equal(after[key], before[key]) for key in after if key.startswith("visual."))


@pytest.mark.parametrize("kind", ["contrastive", "sigmoid"])
def test_a_text_tower_is_trained_over_a_frozen_image_tower_of_categories(
    animals: Path, animal_bundle: Path, tmp_path: Path, kind: str
) -> None:
    """LiT (Zhai et al. 2022): what comes out is a CLIP whose image tower is, to the bit, that of the categories."""
    lit = {"text": {"preset": "sightword-small"}, "lock": {"image": 1.0}, "objective": {"kind": kind}}
    rate = {"learning_rate": 3e-3, "warmup_steps": 1}
    settings = further_on_categories(
        animal_bundle, steps=20, evaluate_every=20, optimizer=rate, weights_dtype="float32"
    )
    bundle = train_and_export(load_config(write_config(animals, **settings | lit)), animals, tmp_path / "run")
    assert bundle is not None
    assert bundle.manifest.config.text.kind == "clip"
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]
    before, after = load_file(animal_bundle / "weights.safetensors"), load_file(bundle.path / "weights.safetensors")
    towers = [name for name in before if name.startswith("visual.")]
    assert len(towers) > 10
    assert all(torch.equal(after[name], before[name]) for name in towers)
    vectors = Embedder(bundle).embed_texts(["a dog in the snow", "anything that is no category"])
    assert vectors.shape == (2, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_a_text_section_does_not_go_with_categories(animals: Path, animal_bundle: Path, tmp_path: Path) -> None:
    changes = further_on_categories(animal_bundle, text={"preset": "sightword-small"})
    with pytest.raises(ConfigError, match="text: a text tower learns from captions"):
        setup(load_config(write_config(animals, **changes)), tmp_path / "run", animals)


def test_what_is_trained_is_served_as_torch_computes_it(trained: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(trained / "bundle")
    network, pictures = load_network(bundle).float().eval(), [picture(colour, 2000) for colour in COLOURS]
    assert network.logit_bias is not None
    pixels = torch.from_numpy(np.stack([load_image(each, bundle.preprocessing) for each in pictures]))
    tokenizer = bundle.tokenizer()
    names = [each.names[0] for each in read_vocabulary(trained / CATEGORIES).categories]
    token_ids = torch.from_numpy(tokenizer.pad(tokenizer.encode(names)))
    with torch.no_grad():
        cosines = ImageGraph(network, bundle.preprocessing)(pixels) @ TextGraph(network)(token_ids).T
        scores = (network.logit_scale.exp() * cosines + network.logit_bias).sigmoid()
    request = {"inputs": [{"image": base64.b64encode(each).decode()} for each in pictures], "top_k": len(names)}
    with running(tmp_path, bundle.path, timeout_s="120") as service:
        answer = httpx.post(f"{service.url}/classify", json=request, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    for number, (colour, entry) in enumerate(zip(COLOURS, answer.json()["data"], strict=True)):
        assert {label["label"] for label in entry["predictions"]} == {*names}
        assert entry["label"] in f"{SAID[colour]} animal"
        for label in entry["predictions"]:
            column = names.index(label["label"])
            assert label["cosine"] == pytest.approx(float(cosines[number, column]), abs=1e-4)
            assert label["score"] == pytest.approx(float(scores[number, column]), abs=1e-4)
