"""The checkpoint that ships, measured from outside: photographs posted to a running service.

The large tests need the photograph shards that SIGHTWORD_TRAINING_PHOTOS names, or data/photos; without them only a
photograph that a package carries is asked about.
"""

from __future__ import annotations

import base64
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import Running, running
from model.bundle import bundled
from tests.service.pictures import as_base64

ROOT = Path(__file__).parents[1]
PLACE = Path(os.environ.get("SIGHTWORD_TRAINING_PHOTOS", ROOT / "data" / "photos"))
PHOTOS = PLACE if PLACE.is_dir() else None
BATCH = 64

# Floors below which something is broken, in percent of pictures.
FLOORS = {
    "caltech101": 66, "unseen-classes": 50, "grocery": 57, "cifar10": 24,
    "clothing": 57, "flowers-tf": 77, "trashnet": 75,
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("bundled"), bundled(), timeout_s="300") as service:
        yield service


def classify(service: Running, pictures: list[str], labels: list[str]) -> list[str]:
    body = {"inputs": [{"image": picture} for picture in pictures], "labels": labels, "top_k": 1}
    answer = httpx.post(f"{service.url}/classify", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return [entry["label"] for entry in answer.json()["data"]]


def test_a_photograph_gets_a_right_answer(service: Running) -> None:
    [label] = classify(service, [as_base64("flower")], ["flower", "car", "shoe", "airplane"])
    assert label == "flower"


@pytest.mark.skipif(PHOTOS is None, reason="SIGHTWORD_TRAINING_PHOTOS names no photograph shards")
@pytest.mark.parametrize("name", FLOORS)
def test_zero_shot_accuracy_is_above_its_floor(service: Running, name: str) -> None:
    assert PHOTOS is not None
    samples = list(_samples(PHOTOS, name))
    labels = sorted({label for label, _ in samples})
    samples = samples[:: max(1, len(samples) // 1200)]
    right = 0
    for start in range(0, len(samples), BATCH):
        part = samples[start : start + BATCH]
        answers = classify(service, [picture for _, picture in part], labels)
        right += sum(answer == label for answer, (label, _) in zip(answers, part, strict=True))
    assert 100 * right / len(samples) >= FLOORS[name]


def _samples(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """(label, picture in base64) of every test picture."""
    for shard in sorted(folder.glob(f"test-{name}-*.tar")):
        with tarfile.open(shard) as archive:
            members = {member.name: member for member in archive}
            for key in sorted(name for name in members if name.endswith(".json")):
                picture = members[key.replace(".json", ".jpg")]
                told, data = archive.extractfile(members[key]), archive.extractfile(picture)
                assert told is not None
                assert data is not None
                yield json.loads(told.read())["label"], base64.b64encode(data.read()).decode("ascii")
