"""Every kind of run that is killed by kill -9 goes on and ends with the same bits as one that was not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file

from tests.model.language_models import write_sentence_encoder
from tests.training.conftest import COLOURS, assert_same_bits, further, picture, write_config, write_shard
from tests.training.reinforced import write_reinforced
from training.categories.wordnet import WORDNET
from training.config import Objective, load_config
from training.config.text import Text
from training.loop.setup import setup

pytestmark = pytest.mark.timeout(900)  # of which the first one waits for all that are killed
# What a run of each kind changes; BUNDLE and LANGUAGE_MODEL stand for folders of small ones. A new kind needs a row.
KINDS: dict[str, dict[str, Any]] = {
    "contrastive": {},
    "sigmoid": {"objective": "sigmoid"},
    "rank": {"objective": {"kind": "rank", "rank": {"cross_ramp": [0.0, 0.9], "in_ramp": [0.3, 1.0]}}},
    "llip": {"objective": {"kind": "llip", "llip": {"tokens": 3, "heads": 2}}},
    "categories": {
        "objective": "categories", "model": "sightword-small", "start": None, "stages": [{"start": 0, "pixels": 64}],
    },
    "teacher": {"objective": {"teacher": "BUNDLE"}},
    "teacher.stored": {
        "objective": {"teacher": "stored"},
        "data": {"train": [{"shards": ["stored-*.tar"]}], "holdout": 0.1, "store_pixels": 48, "max_long_text": 0},
    },
    "text.preset": {"text": {"preset": "sightword-small"}, "lock": {"image": 1.0}},
    "text.frozen": {"text": {"frozen": "LANGUAGE_MODEL"}},
    "captions.mix": {
        "data": {
            "train": [{"shards": ["train-*.tar"]}],
            "holdout": 0.2,
            "store_pixels": 48,
            "captions": {"mix": {"human": [1.0, 0.1], "alt": [0.1, 1.0]}},
        }
    },
}  # fmt: skip
STEPS, KILLED_AT, SAVED_EVERY = 4, 3, 2
# One process that is killed while all of them are in the middle: each waits there for the next one to come as far.
KILLED = f"""
import json, os, sys, threading
from pathlib import Path
from training.config import load_config
from training.loop.setup import setup
class Halt:
    def __init__(self, trainer):
        self.trainer, self.reached = trainer, threading.Event()
    def log(self, record):
        if record["step"] == {KILLED_AT}:
            self.trainer.checkpoints.wait()  # for what is written aside
            self.reached.set()
            threading.Event().wait()
files, output, data = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
for name, file in files.items():
    trainer = setup(load_config(Path(file)), output / name, data)
    halt = Halt(trainer)
    trainer.loggers = [halt]
    run = threading.Thread(target=trainer.fit, daemon=True)
    run.start()
    while not halt.reached.wait(0.1):
        if not run.is_alive(): sys.exit(f"{{name}} ended before it was killed")
os.kill(os.getpid(), 9)
"""


def test_every_kind_of_objective_and_text_tower_has_a_row() -> None:
    objectives = set(get_args(Objective.model_fields["kind"].annotation))
    fields = Text.model_fields.items()
    towers = {f"text.{name}" for name, field in fields if field.is_required() or field.default is None}
    assert objectives | towers | {"teacher", "teacher.stored", "captions.mix"} == KINDS.keys()


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of four colours, each with a label, a sentence and an alternative text; others with stored vectors."""
    folder, members = tmp_path_factory.mktemp("captioned"), dict[str, bytes]()
    for number in range(80):
        colour = list(COLOURS)[number % len(COLOURS)]
        said = {"label": colour, "captions": [f"a {colour} dog"], "alt": f"dog, {colour}"}
        members |= {f"{number}.png": picture(colour, number), f"{number}.json": json.dumps(said).encode()}
    write_shard(folder / "train-0.tar", members)
    write_reinforced(folder / "stored-0.tar", 60)
    write_shard(folder / "test-0.tar", {"0.png": picture("red", 1000), "0.json": b'{"label": "red"}'})
    return folder


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_encoder(tmp_path_factory.mktemp("language-model") / "tiny-bert")


@pytest.fixture(scope="module")
def killed(captioned: Path, tiny: Path, language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that were killed, by kind."""
    folder = tmp_path_factory.mktemp("killed")
    files = {name: str(configuration(folder, tiny, language_model, name)) for name in KINDS if can_run(name)}
    arguments = [json.dumps(files), str(folder), str(captioned)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folder


def can_run(name: str) -> bool:
    return name != "categories" or (WORDNET / "data.noun").exists()


def configuration(folder: Path, tiny: Path, language_model: Path, name: str) -> Path:
    written = json.dumps(KINDS[name]).replace("BUNDLE", str(tiny)).replace("LANGUAGE_MODEL", str(language_model))
    changes = json.loads(written)
    every = {"steps": STEPS, "evaluate_every": STEPS, "checkpoint_every": SAVED_EVERY}
    return write_config(folder, **further(tiny, **every, **changes))


@pytest.mark.parametrize("name", KINDS)
def test_a_run_that_was_killed_ends_with_the_bits_of_one_that_was_not(
    killed: Path, captioned: Path, tiny: Path, language_model: Path, tmp_path: Path, name: str
) -> None:
    if not can_run(name):
        pytest.skip("WordNet's data files are not here: apt-get install wordnet-base")
    config = load_config(configuration(tmp_path, tiny, language_model, name))
    whole = setup(config, tmp_path / "whole", captioned)
    whole.fit()
    resumed = setup(config, killed / name, captioned)
    assert resumed.state.step == SAVED_EVERY
    resumed.fit()
    assert_same_bits(tmp_path / "whole", killed / name)
    one, other = (load_file(run / "best.safetensors") for run in (tmp_path / "whole", killed / name))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert resumed.state == whole.state
    records = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (tmp_path / "whole", killed / name)
    ]
    losses, again = ([record["loss"] for record in each] for each in records)
    assert losses == again
    assert len(set(losses)) == STEPS
