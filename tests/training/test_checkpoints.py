"""Checkpoints that are kept, a full disk, and figures that are not finite: what is whole stays so, and it is said."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import COLOURS, further, write_config
from training.config import load_config
from training.loop.setup import setup
from training.loop.train_unit import MAX_SUSPECTS, MIN_LOSS_SCALE
from training.loop.trainer import Trainer, train_step
from training.run_folder import NOT_FINITE, list_checkpoints


def trainer(folder: Path, run: Path, **changes: Any) -> Trainer:
    return setup(load_config(write_config(folder, **changes)), run, folder)


class At:
    """Does something once a step is done, before it is saved."""

    def __init__(self, step: int, do: Callable[[], None]) -> None:
        self.step, self.do = step, do

    def log(self, record: dict[str, Any]) -> None:
        if record["step"] == self.step:
            self.do()


def fill_disk() -> None:
    """No file may grow beyond 50 kB, which the weights do."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))


@contextmanager
def room_again() -> Iterator[None]:
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def test_the_last_checkpoints_are_kept(colours: Path, tiny: Path, tmp_path: Path) -> None:
    changes = further(tiny, steps=7, checkpoint_every=2, keep_checkpoints=3)
    trainer(colours, tmp_path / "run", **changes).fit()
    names = [path.name for path in list_checkpoints(tmp_path / "run")]
    assert names == ["step-000004", "step-000006", "step-000007"]
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == names


def test_a_full_disk_leaves_the_earlier_checkpoint(colours: Path, tiny: Path, tmp_path: Path) -> None:
    changes = further(tiny, steps=6, evaluate_every=6, checkpoint_every=2)
    run = tmp_path / "run"
    full = trainer(colours, run, **changes)
    (run / "metrics.jsonl").touch()
    full.loggers = [At(4, fill_disk)]
    with (
        room_again(),
        pytest.raises(OSError, match=r"step-000004 cannot be written: .*step-000002 is whole: make room"),
    ):
        full.fit()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]
    resumed = trainer(colours, run, **changes)
    assert resumed.state.step == 2
    resumed.fit()
    assert list_checkpoints(run)[-1].name == "step-000006"


def test_a_full_disk_leaves_the_best_weights_so_far(colours: Path, tiny: Path, tmp_path: Path) -> None:
    full = trainer(colours, tmp_path / "run", **further(tiny, steps=6, evaluate_every=2, checkpoint_every=6))

    def fail_to_improve() -> None:
        full.state.best_score = -1.0  # whatever comes next is better
        fill_disk()

    full.loggers = [At(2, fail_to_improve)]  # told after the first evaluation
    with room_again(), pytest.raises(OSError, match=r"best\.safetensors cannot be written"):
        full.fit()
    assert [path.name for path in (tmp_path / "run").glob("best*")] == ["best.safetensors"]


def poisoned(folder: Path, run: Path, tiny: Path, step: int) -> Trainer:
    """A run with a checkpoint of step 2, whose text tower knows one word no more after `step`."""
    trained = trainer(folder, run, **further(tiny, steps=4, checkpoint_every=2))
    [token] = {row[1] for row in trained.initial.tokenizer.encode(["red"])}

    def poison() -> None:
        with torch.no_grad():
            trained.network.token_embedding.weight[token] = math.nan

    trained.loggers = [At(step, poison)]
    return trained


def test_a_loss_that_is_not_finite_names_the_samples(colours: Path, tiny: Path, tmp_path: Path) -> None:
    trained, run = poisoned(colours, tmp_path / "run", tiny, step=3), tmp_path / "run"
    with pytest.raises(FloatingPointError, match=r"the loss at step 3 is not finite\. Look at train-0\.tar/") as error:
        trained.fit()
    assert "step-000002 is intact" in str(error.value)
    told = json.loads((run / NOT_FINITE).read_text())
    batch = trained.data.batch(3, 32)
    said = [batch.texts[column] for column in batch.drawn]
    reds = [key for key, text in zip(trained.data.keys(batch.items), said, strict=True) if "red" in text]
    assert told["step"] == 3
    assert set(told["keys"]) == set(reds)
    labels = [list(COLOURS)[int(Path(key).stem.split("/")[-1]) % 4] for key in told["keys"]]
    assert set(labels) == {"red"}
    again = trainer(colours, run, **further(tiny, steps=4, checkpoint_every=2))
    again.fit()  # from what is intact, without the poison
    assert list_checkpoints(run)[-1].name == "step-000004"


def test_weights_that_are_not_finite_are_never_saved(colours: Path, tiny: Path, tmp_path: Path) -> None:
    trained, run = poisoned(colours, tmp_path / "run", tiny, step=4), tmp_path / "run"
    with pytest.raises(FloatingPointError, match=r"the weights after step 3 are not finite.*step-000002 is intact"):
        trained.fit()
    assert [path.name for path in list_checkpoints(run)] == ["step-000002"]


def test_a_gradient_that_is_not_finite_names_the_largest_losses(colours: Path, tiny: Path, tmp_path: Path) -> None:
    trained = trainer(colours, tmp_path / "run", **further(tiny))
    trained.network.text_projection.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(FloatingPointError, match=r"the gradient at step 0 is not finite.*no checkpoint yet"):
        trained.fit()
    assert len(json.loads((tmp_path / "run" / NOT_FINITE).read_text())["keys"]) == MAX_SUSPECTS


def test_float16_leaves_out_steps_whose_gradients_overflow(colours: Path, tiny: Path, tmp_path: Path) -> None:
    trained = trainer(colours, tmp_path / "run", **further(tiny, precision="fp16"))
    trained.unit.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = trained.network.text_projection.detach().clone()
    assert not math.isfinite(train_step(trained.unit, trained.loader.load(0))["gradient_norm"])
    assert torch.equal(trained.network.text_projection, before)
    assert trained.unit.scaler.get_scale() == 2.0**39


def test_steps_that_float16_left_out_are_told_and_null_in_the_figures(
    colours: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = trainer(colours, tmp_path / "run", **further(tiny, precision="fp16"))
    trained.unit.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**21, growth_interval=1000)
    trained.fit()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "NaN" not in lines
    norms = [json.loads(line)["gradient_norm"] for line in lines.splitlines()]
    left_out = [step for step, norm in enumerate(norms, 1) if norm is None]
    assert left_out
    told = " ".join(capsys.readouterr().err.split())
    assert all(f"step {step} is left out: its gradient overflows float16" in told for step in left_out)


def test_a_gradient_that_no_scale_of_float16_makes_finite_ends_the_run(
    colours: Path, tiny: Path, tmp_path: Path
) -> None:
    trained = trainer(colours, tmp_path / "run", **further(tiny, precision="fp16"))
    trained.unit.scaler = torch.amp.GradScaler("cpu", init_scale=1.5 * MIN_LOSS_SCALE)
    trained.network.text_projection.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(FloatingPointError, match="the gradient at step 1 is not finite"):
        trained.fit()  # of step 0 it might have been the scale, which is halved
