"""What each setting of `optimizer`, and the moving average, does to the weights: one step against AdamW by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import further, write_config
from training.config import ConfigError, Optimizer, load_config
from training.loop.setup import setup
from training.loop.trainer import Trainer, train_step

WATCHED = "text_projection"  # a matrix, so that it decays
RATE, DECAY = 1e-2, 0.5
Step = Callable[..., "Taken"]


class Taken:
    """A first step: a parameter before and after, its gradient, AdamW's moments."""

    def __init__(self, trainer: Trainer) -> None:
        start = {name: tensor.detach().clone() for name, tensor in trainer.network.named_parameters()}
        self.figures = train_step(trainer.unit, trainer.loader.load(0))
        trainer.loader.close()
        self.parameters = dict(trainer.network.named_parameters())
        self.moves = {name: tensor.detach() - start[name] for name, tensor in self.parameters.items()}
        self.before, self.after = start[WATCHED], self.parameters[WATCHED].detach()
        self.gradient: Tensor = self.parameters[WATCHED].grad
        self.state = trainer.unit.optimizer.state[self.parameters[WATCHED]]
        self.start, self.average = start, trainer.unit.average.state


@pytest.fixture
def step(colours: Path, tiny: Path, tmp_path: Path) -> Step:
    def take(ema_decay: float = 0.5, **changed: Any) -> Taken:
        plain = {"learning_rate": RATE, "warmup_steps": 0, "weight_decay": 0.0, "clip_norm": None}
        changes = further(tiny, ema_decay=ema_decay, optimizer={**plain, **changed})
        return Taken(setup(load_config(write_config(tmp_path, **changes)), tmp_path / "run", colours))

    return take


def by_hand(taken: Taken, rate: float = RATE, eps: float = 1e-6, decay: float = 0.0) -> Tensor:
    """AdamW's first step, where both moments are the gradient's."""
    return taken.before * (1 - rate * decay) - rate * taken.gradient / (taken.gradient.abs() + eps)


@pytest.mark.parametrize(
    ("changed", "hand"),
    [
        ({}, {}),
        ({"learning_rate": 3e-3}, {"rate": 3e-3}),
        ({"eps": 1e-2}, {"eps": 1e-2}),
        ({"weight_decay": DECAY}, {"decay": DECAY}),
        ({"warmup_steps": 2}, {"rate": RATE / 2}),
    ],
    ids=str,
)
def test_the_first_step_is_adamws(step: Step, changed: dict[str, Any], hand: dict[str, float]) -> None:
    taken = step(**changed)
    torch.testing.assert_close(taken.after, by_hand(taken, **hand), rtol=0, atol=1e-6)
    if changed:
        assert (taken.after - by_hand(taken)).abs().max() > 1e-4  # it is not what the step would be without
    assert taken.figures["learning_rate"] == pytest.approx(hand.get("rate", RATE))


def test_moments_are_gathered_by_the_betas(step: Step) -> None:
    for first, second in ((0.9, 0.98), (0.5, 0.75)):
        taken = step(betas=[first, second])
        torch.testing.assert_close(taken.state["exp_avg"], (1 - first) * taken.gradient)
        torch.testing.assert_close(taken.state["exp_avg_sq"], (1 - second) * taken.gradient.square())


def test_gains_and_scalars_do_not_decay_and_deeper_layers_move_less(step: Step) -> None:
    free, decayed, layered = step(), step(weight_decay=DECAY), step(layer_decay=0.5)
    for name in ("logit_scale", "ln_final.weight"):
        torch.testing.assert_close(decayed.moves[name], free.moves[name])
    top, below = "text_projection", "token_embedding.weight"
    torch.testing.assert_close(layered.moves[top], free.moves[top])
    depth = 2 + 1  # of the embedding: two blocks, and what is above them
    torch.testing.assert_close(layered.moves[below], free.moves[below] / 2**depth, rtol=0.02, atol=1e-7)


def test_the_average_follows_by_its_decay_and_faster_at_first(step: Step, colours: Path) -> None:
    for decay, kept in ((0.05, 0.05), (0.99, 0.1)):  # (1 + step) / (10 + step), where that is less
        taken = step(ema_decay=decay)
        expected = kept * taken.before + (1 - kept) * taken.after
        torch.testing.assert_close(taken.average[WATCHED], expected)


def test_the_rate_follows_the_schedule_of_the_configured_run(colours: Path, tiny: Path, tmp_path: Path) -> None:
    rates = {}
    for warmup in (1, 3):
        optimizer = {"learning_rate": 1e-3, "warmup_steps": warmup}
        run = tmp_path / str(warmup)
        setup(load_config(write_config(tmp_path, **further(tiny, optimizer=optimizer))), run, colours).fit()
        rates[warmup] = [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rates[1] == pytest.approx([1e-3, 1e-3, 7.5e-4, 2.5e-4])
    assert rates[3] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])


@pytest.mark.parametrize(
    "change",
    ["betas=[0.9, 1.0]", "betas=[-0.1, 0.9]", "learning_rate=.inf", "eps=.nan", "clip_norm=0", "clip_norm=.inf"],
)
def test_numbers_that_mean_nothing_are_refused_by_their_field(colours: Path, change: str) -> None:
    with pytest.raises(ConfigError, match=rf"optimizer\.{change.partition('=')[0]}"):
        load_config(write_config(colours), [f"optimizer.{change}"])


def test_gradients_are_clipped_to_1_unless_the_configuration_says_otherwise() -> None:
    assert Optimizer().clip_norm == 1.0
    assert Optimizer(clip_norm=None).clip_norm is None
