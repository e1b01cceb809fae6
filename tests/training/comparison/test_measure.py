"""What is measured of the bundles of a comparison, and what is left out and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.bundle import Bundle
from model.embedder import Embedder
from tests.training.conftest import picture, write_config, write_shard
from training.comparison.config import Measure
from training.comparison.measure import (
    OF_EVERY_TEST,
    ON_REQUEST,
    PARAPHRASE,
    PROBE,
    ROBUSTNESS,
    BundleMeasurement,
    measure_costs,
)
from training.config import load_config
from training.evaluation.results import TASKS
from training.report.costs import PeakMemory, training_costs


def captioned(folder: Path) -> None:
    members: dict[str, bytes] = {}
    for number, name in enumerate(("red", "blue", "green")):
        members[f"{number}.png"] = picture(name, number)
        members[f"{number}.json"] = json.dumps({"captions": [f"something {name}"]}).encode()
    write_shard(folder / "captions-0.tar", members)


def measured(embedder: Embedder, base: Path, **fields: Any) -> tuple[list[tuple[str, str]], dict[str, str]]:
    (base / "synonyms.json").write_text(json.dumps({"red": ["crimson"]}))
    data = {"train": [{"shards": "x"}], "synonyms": "synonyms.json"}
    config = load_config(write_config(base, templates=["a {}", "a photo of a {}"], data=data))
    measurement = BundleMeasurement(Measure.model_validate(fields), base, config)
    found = measurement(embedder, lambda *_: None)
    return [(result.dataset, result.task) for result in found], measurement.refused


def test_what_is_measured_is_what_was_asked_for(colours: Path, tiny: Path, tmp_path: Path) -> None:
    embedder = Embedder(Bundle.load(tiny))
    for name in ("train-0.tar", "test-0.tar"):
        (tmp_path / name).symlink_to(colours / name)
    captioned(tmp_path)
    test = {"colours": ["test-*.tar"], "other": ["train-*.tar"], "sentences": ["captions-*.tar"]}
    zero_shot = [("colours", "zeroshot_classification"), ("other", "zeroshot_classification")]
    retrieval = [("sentences (captions)", "zeroshot_retrieval")]
    found, refused = measured(embedder, tmp_path, test=test)
    assert [*zero_shot, *retrieval] == [each for each in found if each[1].startswith("zeroshot")]
    paraphrases = [f"{name} ({what})" for name in ("colours", "other") for what in ("synonyms", "templates")]
    assert [name for name, task in found if task == "paraphrase"] == paraphrases
    assert len(found) == 7  # there are no paraphrases of single sentences, and nothing to say of it
    assert refused == {}
    found, refused = measured(embedder, tmp_path, test={"sentences": test["sentences"]}, tasks="paraphrase")
    assert found == []
    assert "there are no paraphrases" in refused["sentences, paraphrase"]
    found, _ = measured(embedder, tmp_path, test=test, tasks="zeroshot")
    assert found == zero_shot
    one = {"colours": test["colours"]}
    found, _ = measured(embedder, tmp_path, test=one, tasks=["linear-probe"], probe={"colours": "train-*.tar"})
    assert found == [("colours", "linear_probe")]
    assert set(TASKS) == {*OF_EVERY_TEST, ROBUSTNESS, PROBE, PARAPHRASE, *ON_REQUEST}  # a new task has its place
    found, _ = measured(embedder, tmp_path, test=test, tasks="robustness", robustness={"other": "colours"})
    assert found == [("other against colours", "robustness")]


def test_what_cannot_be_measured_is_told_and_leaves_the_rest(colours: Path, tiny: Path) -> None:
    embedder = Embedder(Bundle.load(tiny))
    test = {"colours": ["test-*.tar"], "gone": ["gone-*.tar"]}
    found, refused = measured(embedder, colours, test=test, probe={"colours": "nothing-*.tar"})
    assert ("colours", "zeroshot_classification") in found
    assert not any(task == "linear_probe" for _, task in found)
    assert "no file matches 'nothing-*.tar'" in refused["colours, linear-probe"]
    assert "no file matches 'gone-*.tar'" in refused["gone, zeroshot"]


def test_costs_are_those_of_the_bundle_and_of_its_steps(tiny: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(tiny)
    bundle.manifest.source["parameters"] = 1234
    costs = measure_costs(bundle)
    assert costs["parameters"] == 1234
    assert costs["bundle_bytes"] == sum(file.stat().st_size for file in tiny.iterdir())
    assert 0 < costs["text_ms"] < 10_000
    assert 0 < costs["image_ms"] < 10_000
    lines = [json.dumps({"step": step, "samples_per_s": rate}) for step, rate in enumerate((10, 20, 40), 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    (tmp_path / "peak_memory.json").write_text(json.dumps({"memory_bytes": 2**60}))
    PeakMemory(tmp_path).log({})
    assert training_costs(tmp_path, 20) == {"training_s": 3.5, "step_s": 1.0, "memory_bytes": 2**60}
    (tmp_path / "peak_memory.json").write_text(json.dumps({"memory_bytes": 5}))
    PeakMemory(tmp_path).log({})
    assert training_costs(tmp_path, 20)["memory_bytes"] > 2**26  # python with torch


@pytest.fixture(autouse=True)
def _own_manifest(tiny: Path) -> None:
    """The manifest on the disk is nobody's to change: what a test writes is in memory."""
    assert "parameters" not in json.loads((tiny / "bundle.json").read_text())["source"]
