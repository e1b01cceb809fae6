"""Checkpoints written while the run goes on: of their step to the bit, told when they fail, whole when killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.conftest import further, write_config
from training.config import load_config
from training.loop import checkpoint_writer
from training.loop.checkpoint import Snapshot, write_checkpoint
from training.loop.setup import setup
from training.loop.trainer import train_step
from training.run_folder import list_checkpoints

KILLED = """
import os, sys
from pathlib import Path
from training.config import load_config
from training.loop import checkpoint
from training.loop.setup import setup
write = checkpoint.write_tensors
def write_or_die(tensors, file):
    if "step-000004" in str(file) and file.stem == "average":
        os.kill(os.getpid(), 9)
    write(tensors, file)
checkpoint.write_tensors = write_or_die
setup(load_config(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])).fit()
"""


class Seen:
    """Does something at each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.reached = threading.Event()

    def log(self, record: dict[str, Any]) -> None:
        self.steps.append(record["step"])
        if record["step"] == 5:
            self.reached.set()


def test_a_run_goes_on_while_its_state_of_an_earlier_step_is_written(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = further(tiny, steps=6, evaluate_every=6, checkpoint_every=3, keep_checkpoints=9)
    config = load_config(write_config(colours, **changes))
    whole = setup(config, tmp_path / "whole", colours)
    for step in range(3):
        train_step(whole.unit, whole.loader.load(step))
    seen = Seen()

    def write_late(run: Path, snapshot: Snapshot, keep: int) -> None:
        if snapshot.step == 3:
            assert seen.reached.wait(200), "training waited for the checkpoint"
        write_checkpoint(run, snapshot, keep)

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", write_late)
    late = setup(config, tmp_path / "late", colours)
    late.loggers = [seen]
    late.fit()
    assert [path.name for path in list_checkpoints(tmp_path / "late")] == ["step-000003", "step-000006"]
    for what, state in (("network", whole.network.state_dict()), ("average", whole.unit.average.state)):
        saved = load_file(tmp_path / "late" / "checkpoints" / "step-000003" / f"{what}.safetensors")
        assert saved.keys() == state.keys()
        assert all(torch.equal(saved[key], state[key]) for key in state), what


def test_what_could_not_be_written_ends_the_run_at_the_next_step(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Path, snapshot: Snapshot, keep: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", fail)
    changes = further(tiny, steps=500, evaluate_every=500, checkpoint_every=2)
    broken = setup(load_config(write_config(colours, **changes)), tmp_path / "run", colours)
    seen = Seen()
    broken.loggers = [seen]
    with pytest.raises(OSError, match="no room"):
        broken.fit()
    assert seen.steps[-1] in (2, 3)  # and not at the next checkpoint


def test_the_last_checkpoint_is_waited_for_and_its_error_raised(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_late(run: Path, snapshot: Snapshot, keep: int) -> None:
        threading.Event().wait(0.2)
        raise OSError("no room")

    monkeypatch.setattr(checkpoint_writer, "write_checkpoint", fail_late)
    changes = further(tiny, steps=2, evaluate_every=2, checkpoint_every=2)
    with pytest.raises(OSError, match="no room"):
        setup(load_config(write_config(colours, **changes)), tmp_path / "run", colours).fit()


def test_a_run_killed_while_it_writes_goes_on_from_the_checkpoint_before(
    colours: Path, tiny: Path, tmp_path: Path
) -> None:
    file = write_config(tmp_path, **further(tiny, steps=6, evaluate_every=6, checkpoint_every=2))
    command = [sys.executable, "-c", KILLED, str(file), str(tmp_path / "run"), str(colours)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "run" / "checkpoints" / "step-000004.partial").exists()
    resumed = setup(load_config(file), tmp_path / "run", colours)
    assert resumed.state.step == 2
    resumed.fit()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir() if path.suffix] == []
