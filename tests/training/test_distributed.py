"""Two processes against one: the same losses, gradients and weights; and none waits for a dead one.

What differs is the order in which float32 sums are taken. Losses are asked to agree to 1e-5, and the gradients' norms
and first moments to 1e-4 of the largest; AdamW divides by moments that may be next to nothing, so weights are asked to
agree to the steps that it can have taken: 1e-3 each.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.network import build_network
from tests.training.conftest import TINY, further, write_config
from training.config import ConfigError, load_config
from training.loop.batch_partition import check_partition, partition_images, split
from training.loop.setup import setup
from training.loop.trainer import train_step

SIGMOID = {"objective": {"kind": "sigmoid"}}
RANK = {"objective": {"kind": "rank", "rank": {"cross_weight": 0.5, "in_weight": 0.5, "in_ramp": [0, 0]}}}
LLIP = {"objective": {"kind": "llip", "llip": {"tokens": 3, "heads": 2}}}
LIMIT = 0.05
# With a large `eps` AdamW's steps follow the size of gradients: unclipped they would be others, and the losses too.
CLIPPED = {"optimizer": {"learning_rate": 1e-2, "eps": 1e-2, "warmup_steps": 1, "clip_norm": LIMIT}}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def sharing(tiny: Path) -> dict[str, dict[str, Any]]:
    taught = {"objective": {"teacher": str(tiny), "teacher_scale": 20}}
    return {
        "ddp": {},
        "fsdp": {"parallel": "fsdp"},
        "ddp in chunks": {"accumulate": 2, "gradient_checkpointing": True},
        "fsdp in chunks": {"accumulate": 2, "gradient_checkpointing": True, "parallel": "fsdp", "checkpoint_every": 2},
        "ddp sigmoid": SIGMOID,
        "fsdp sigmoid": {**SIGMOID, "parallel": "fsdp"},
        "ddp rank": RANK,
        "fsdp rank in chunks": {**RANK, "parallel": "fsdp", "accumulate": 2},
        "ddp llip": LLIP,
        "fsdp llip in chunks": {**LLIP, "accumulate": 2, "parallel": "fsdp"},
        "ddp taught": taught,
        "ddp unlocked on the way": {"lock": {"image": [0.0, 0.75]}},
        "ddp without patches": {"patch_dropout": 0.5},
        "ddp clipped": CLIPPED,
        "fsdp clipped": {**CLIPPED, "parallel": "fsdp"},
        "fsdp clipped in chunks": {**CLIPPED, **SIGMOID, "parallel": "fsdp", "accumulate": 2},
    }


ALONE = {
    "objective",
    "lock",
    "patch_dropout",
    "optimizer",
}  # what changes the result, and is to be compared with itself


@pytest.fixture(scope="module")
def shared(colours: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of two processes, by name."""
    output = tmp_path_factory.mktemp("shared")
    runs = {name: further(tiny, **changes) for name, changes in sharing(tiny).items()}
    for rank in range(2):
        (output / str(rank)).mkdir()
    script = [str(Path(__file__).with_name("several.py")), str(colours), str(output), json.dumps(runs)]
    done = subprocess.run([*TORCHRUN, *script], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def figures(run: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (run / "metrics.jsonl").read_text().splitlines()]


def saved(run: Path, what: str) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / "step-000004" / f"{what}.safetensors")


def assert_alike(one: Path, other: Path) -> None:
    assert figures(other, "loss") == pytest.approx(figures(one, "loss"), rel=1e-6, abs=1e-5)
    assert figures(other, "gradient_norm") == pytest.approx(figures(one, "gradient_norm"), rel=1e-4)
    assert figures(other, "logit_scale") == pytest.approx(figures(one, "logit_scale"), rel=1e-5)
    ours, theirs = saved(one, "optimizer"), saved(other, "optimizer")
    assert ours.keys() == theirs.keys()
    for name in ours:
        if name.endswith("exp_avg"):
            near = 1e-4 * float(ours[name].abs().max()) + 1e-6
            torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=near)
    for what in ("network", "average"):
        ours, theirs = saved(one, what), saved(other, what)
        assert ours.keys() == theirs.keys()
        for name in ours:
            torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", sharing(Path()))
def test_two_processes_learn_what_one_does(colours: Path, tiny: Path, shared: Path, tmp_path: Path, name: str) -> None:
    changes = {field: value for field, value in sharing(tiny)[name].items() if field in ALONE}
    setup(load_config(write_config(tmp_path, **further(tiny, **changes))), tmp_path / "run", colours).fit()
    assert_alike(tmp_path / "run", shared / name)


@pytest.mark.parametrize("name", [name for name, changes in sharing(Path()).items() if "optimizer" in changes])
def test_several_processes_clip_the_gradient_of_all_of_them(shared: Path, name: str) -> None:
    """Its norm is the same in each of them, and above the limit; what AdamW gathers of it is below."""
    assert min(figures(shared / name, "gradient_norm")) > 2 * LIMIT
    moments = [tensor.flatten() for key, tensor in saved(shared / name, "optimizer").items() if key.endswith("exp_avg")]
    gathered = 1 - 0.9**4  # of four gradients, by the first of `betas`
    assert 0.1 * LIMIT < float(torch.cat(moments).norm()) <= gathered * LIMIT * 1.001


def test_fsdp_holds_a_part_of_the_weights_and_ddp_all(shared: Path) -> None:
    one, other = (json.loads((shared / str(rank) / "held.json").read_text()) for rank in range(2))
    whole = sum(parameter.numel() for parameter in build_network(TINY).parameters())
    assert one["ddp"] == other["ddp"] == whole
    assert one["fsdp"] + other["fsdp"] == whole + 1  # each has the logit scale
    assert max(one["fsdp"], other["fsdp"]) < 0.6 * whole


def test_what_processes_share_is_resumed_to_the_same_bits(shared: Path) -> None:
    for what in ("network", "average", "optimizer"):
        one, other = saved(shared / "fsdp in chunks", what), saved(shared / "resumed", what)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), what


def test_shares_of_the_loss_are_open_clips_local_losses(shared: Path) -> None:
    """Theirs are means over a process's rows, of which DDP takes the mean; ours are parts of a sum."""
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    for rank in range(2):
        found = load_file(shared / f"losses-{rank}.safetensors")
        for what in ("loss", "image", "text", "scale"):
            torch.testing.assert_close(2 * found[f"ours {what}"], found[f"theirs {what}"])


def test_a_run_dies_with_one_of_its_processes_and_goes_on_with_another_number_of_them(
    colours: Path, tiny: Path, tmp_path: Path
) -> None:
    changes = further(tiny, steps=400, evaluate_every=400, checkpoint_every=2, keep_checkpoints=400)
    file, run = write_config(colours, parallel="fsdp", **changes), tmp_path / "run"
    command = [*TORCHRUN, "-m", "training", "train", "--config", str(file), "--output", str(run)]
    started = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(run / "checkpoints" / "step-000002")
    workers = [child for child in psutil.Process(started.pid).children() if child.name().startswith("python")]
    last = next(child for child in workers if child.environ().get("RANK") == "1")
    last.send_signal(signal.SIGKILL)
    _, told = started.communicate(timeout=60)
    assert started.returncode != 0, told
    assert not any(worker.is_running() for worker in workers)

    for step in sorted((run / "checkpoints").iterdir())[1:]:  # back to the first one
        for left in step.iterdir():
            left.unlink()
        step.rmdir()
    alone = load_config(file, ["parallel=ddp"])
    resumed = setup(alone, run, colours)
    assert resumed.state.step == 2
    whole = setup(alone, tmp_path / "whole", colours)
    for step in range(4):
        train_step(whole.unit, whole.loader.load(step))
    one = {name: tensor.clone() for name, tensor in whole.network.state_dict().items()}
    for step in (2, 3):
        train_step(resumed.unit, resumed.loader.load(step))
    for name, tensor in resumed.network.state_dict().items():
        torch.testing.assert_close(tensor, one[name], rtol=0, atol=1e-3)


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.05)


@pytest.mark.parametrize(("size", "processes", "chunks"), [(8, 1, 1), (32, 2, 2), (33, 2, 2), (1000, 3, 4), (2, 1, 1)])
def test_every_picture_is_in_one_share(size: int, processes: int, chunks: int) -> None:
    check_partition(size, processes, chunks)
    shares = partition_images(size, processes, chunks)
    assert [len(share) for share in shares] == [chunks] * processes
    rows = [row for share in shares for chunk in share for block in chunk for row in range(size)[block]]
    assert rows == list(range(size))
    assert all(chunk for share in shares for chunk in share)


def test_more_shares_than_a_batch_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size 32 can be divided 4 times, not among 2 processes in 4 chunks"):
        check_partition(32, 2, 4)
    assert split(2, 3) == [slice(0, 1), slice(1, 2), slice(2, 2)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp16"}, "precision: fp16 .* parallel: fsdp"),
        ({"lock": {"image": [0, 1]}}, "lock: with parallel: fsdp"),
    ],
)
def test_what_fsdp_cannot_do_is_refused(colours: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(colours, parallel="fsdp", **changes))
