"""From the bundled checkpoint to a better one in a running service: fine-tuned on words it never heard, published."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.service_process import PATIENCE_S, running
from model.bundle import Bundle, bundled
from tests.training.conftest import picture, write_shard
from training.__main__ import app
from training.settings import CONFIGS

KEY = "an operator's long key"
NAMES = {"blicket": "red", "dax": "green", "toma": "blue", "wug": "yellow"}


def write(file: Path, count: int, first: int) -> None:
    members = {}
    for number in range(count):
        label = list(NAMES)[number % len(NAMES)]
        members[f"{number:04d}.png"] = picture(NAMES[label], first + number)
        members[f"{number:04d}.json"] = json.dumps({"label": label, "licence": "CC0"}).encode()
    write_shard(file, members)


def test_a_fine_tuning_is_published_and_beats_what_was_served_by_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "train-0.tar", 160, 0)
    write(tmp_path / "test-0.tar", 60, 1000)
    config = yaml.safe_load((CONFIGS / "finetune.yaml").read_text("utf-8"))
    config |= {"name": "sightword-small", "start": str(bundled()), "steps": 24, "batch_size": 16, "ema_decay": 0.8}
    config |= {"stages": [{"start": 0, "pixels": 96}], "evaluate_every": 12, "checkpoint_every": 24}
    config["data"] = {"train": [{"shards": ["train-*.tar"]}], "test": {"words": ["test-*.tar"]}, "holdout": 0.2}
    config["optimizer"] |= {"warmup_steps": 3}
    file = tmp_path / "words.yaml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    folder = shutil.copytree(bundled(), tmp_path / "served")
    monkeypatch.setenv("SIGHTWORD_ADMIN_KEY", KEY)
    with running(tmp_path, folder, admin_key=KEY, timeout_s="120") as service:
        run = tmp_path / "run"
        arguments = ["train", "--config", str(file), "--output", str(run), "--publish", service.url]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        after, before = (float(share) for share in re.findall(r"\(([\d.]+)%\)", done.output)[-2:])
        assert before <= 60
        assert after >= before + 30
        served = httpx.get(f"{service.url}/info", timeout=PATIENCE_S).json()["models"][0]["digest"]
    assert served == Bundle.load(run / "bundle").digest != Bundle.load(bundled()).digest
    assert "| CC0 | 160 |" in (folder / "MODEL_CARD.md").read_text("utf-8")
