"""What processes are given and agree on before the first step: their device, their cores, what they go on from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model.bundle import bundled
from model.config import Preprocessing
from model.network import build_network
from model.runtime.providers import Device
from tests.training.conftest import TINY, further, write_config
from tests.training.test_distributed import ENVIRONMENT, TORCHRUN
from tests.training.text_shares import ALONE
from training.config import load_config
from training.data import decoding_pool
from training.loop import processes
from training.loop.optimizer import MovingAverage, build_optimizer
from training.loop.processes import Processes, group_options, use_own_cores
from training.loop.setup import setup
from training.loop.towers import SharedTowers
from training.loop.train_unit import TrainUnit
from training.objectives import distillation

APART = """
import os, sys
from pathlib import Path
from training.config import ConfigError, load_config
from training.loop.setup import setup

def main():
    output = Path(sys.argv[2]) / os.environ["RANK"]
    try:
        setup(load_config(Path(sys.argv[1])), output, Path(sys.argv[3]))
    except ConfigError as error:
        output.mkdir(exist_ok=True)
        (output / "error").write_text(str(error))

if __name__ == "__main__":  # and not in the processes that decode pictures, which import this, too
    main()
"""


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_nccl_is_given_the_device_of_its_process() -> None:
    device = torch.device("cuda", 3)
    assert group_options(device) == {"backend": "nccl", "timeout": processes.TIMEOUT, "device_id": device}
    assert "device_id" not in group_options(torch.device("cpu"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 3),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "8", "OMP_NUM_THREADS": "1"}, 1),
        ({"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "2"}, 1),
        ({"OMP_NUM_THREADS": "1"}, 1),  # not torchrun's, but somebody's wish
    ],
)
def test_the_one_thread_of_torchrun_becomes_a_share_of_the_cores_and_it_is_said(
    environment: dict[str, str],
    expected: int,
    threads: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(decoding_pool, "usable_cores", lambda: 6)
    torch.set_num_threads(1)
    use_own_cores()
    assert torch.get_num_threads() == expected
    assert ("each process computes on 3 threads" in capsys.readouterr().err) == (expected == 3)


@pytest.mark.parametrize(("device", "gpu"), [("cuda:1", 1), ("cpu", 0)])
def test_a_teacher_runs_on_the_gpu_and_the_cores_of_its_process(
    device: str, gpu: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr(distillation, "Engine", lambda bundle, **options: opened.append(options))
    monkeypatch.setattr(decoding_pool, "usable_cores", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    config = load_config(write_config(tmp_path, objective={"teacher": str(bundled())}))
    network = build_network(TINY)
    towers = SharedTowers(network, Preprocessing(size=32), config, ALONE, "fp32")
    optimizer, average = build_optimizer(network, config.optimizer), MovingAverage(network, 0.5)
    TrainUnit(config, towers, optimizer, average, "fp32", Processes(1, 2, torch.device(device), met=False))
    assert opened == [{"threads": 3, "device": Device(gpu)}]


def test_processes_that_resume_other_steps_all_say_so(colours: Path, tiny: Path, tmp_path: Path) -> None:
    file = write_config(tmp_path, **further(tiny, steps=2, evaluate_every=2))
    setup(load_config(file), tmp_path / "0", colours).fit()  # and no run in the folder of the other one
    script = tmp_path / "apart.py"
    script.write_text(APART)
    command = [*TORCHRUN, str(script), str(file), str(tmp_path), str(colours)]
    done = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in ("0", "1"):
        told = (tmp_path / rank / "error").read_text()
        assert "differ in the number of steps of the checkpoint they go on from: 2 in rank 0, 0 in rank 1" in told
        assert "--output" in told
