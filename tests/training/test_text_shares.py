"""FSDP where processes have unequal shares of the texts: none waits for another, and they learn what one process does.

A process of FSDP waits for all others at each pass through a block, so that one which made fewer would hang them.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from model.tokenizers.clip import Tokenizer
from tests.training.conftest import TINY
from tests.training.test_distributed import ENVIRONMENT
from tests.training.test_distributed import TORCHRUN as PAIR
from tests.training.text_shares import ALONE, step_of
from training.loop import loader
from training.loop.loader import tokenize

GROUP = 128
PAIRED = [
    *([texts, 1, GROUP] for texts in (256, 257)),  # 128 each; 129 and 128
    *([texts, 2, GROUP] for texts in (1, 513)),  # of 513, first micro-batches have 129 and 128
    [257, 1, loader.LARGE_TEXT_GROUP],
    [513, 2, GROUP, "bf16"],
]
MORE_PROCESSES = [[1, 2, 2], [7, 1, 2]]  # two have none; one needs two groups, the others one


def measured(processes: int, cases: list[list[Any]], output: Path) -> list[dict[str, Any]]:
    """What each case gives, in the first of so many processes; all have the same loss and the same gradient."""
    command = [*PAIR[:-1], str(processes), "-m", "tests.training.text_shares", str(output), json.dumps(cases)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((output / f"{rank}.json").read_text()) for rank in range(processes)]
    assert all(rank == ranks[0] for rank in ranks)
    found: list[dict[str, Any]] = ranks[0]
    return found


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    found = measured(2, PAIRED, tmp_path_factory.mktemp("paired"))
    return {str(case): figures for case, figures in zip(PAIRED, found, strict=True)}


@pytest.fixture(autouse=True)
def own_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `step_of` sets is as before afterwards."""
    for name in ("TEXT_GROUP", "LARGE_TEXT_GROUP"):
        monkeypatch.setattr(loader, name, getattr(loader, name))


def assert_alike(figures: dict[str, Any], case: list[Any]) -> None:
    alone = step_of(ALONE, *case)
    rounded = 1e-2 if "bf16" in case else 1e-5
    assert figures["loss"] == pytest.approx(alone["loss"], abs=rounded)
    assert figures["norm"] == pytest.approx(alone["norm"], rel=10 * rounded)


@pytest.mark.parametrize("case", PAIRED, ids=str)
def test_two_processes_learn_what_one_does_from_any_number_of_texts(
    paired: dict[str, dict[str, Any]], case: list[Any]
) -> None:
    assert_alike(paired[str(case)], case)


def test_more_processes_than_texts_learn_what_one_does(tmp_path: Path) -> None:
    for case, figures in zip(MORE_PROCESSES, measured(3, MORE_PROCESSES, tmp_path), strict=True):
        assert_alike(figures, case)


def test_processes_make_as_many_groups_as_the_longest_share_needs(paired: dict[str, dict[str, Any]]) -> None:
    assert paired[str([257, 1, GROUP])]["groups"] == [2]
    assert paired[str([256, 1, GROUP])]["groups"] == [1]
    assert paired[str([513, 2, GROUP])]["groups"] == [2, 1]


def test_larger_groups_of_texts_gather_weights_less_often(paired: dict[str, dict[str, Any]]) -> None:
    """Each group gathers the two blocks of the text tower, forwards and backwards."""
    small, large = (paired[str([257, 1, group])] for group in (GROUP, loader.LARGE_TEXT_GROUP))
    assert small["gathers"] - large["gathers"] == 2 * 2
    assert large["groups"] == [1]


def test_bfloat16_gathers_blocks_in_half_the_bytes_and_features_stay_float32(
    paired: dict[str, dict[str, Any]],
) -> None:
    whole, half = paired[str([513, 2, GROUP])], paired[str([513, 2, GROUP, "bf16"])]
    assert whole["gathered"] == ["torch.float32"]
    assert half["gathered"] == ["torch.bfloat16", "torch.float32"]  # the latter: embeddings and projections
    assert half["features"] == half["gradients"] == ["torch.float32"]


@pytest.mark.parametrize(("texts", "count"), [(128, 2), (256, 3), (129, 2), (5, 1)])
def test_texts_in_more_groups_than_they_need_are_the_same_texts(texts: int, count: int) -> None:
    tokenizer = Tokenizer.clip(TINY.text.vocab_size, TINY.text.context_length)
    words = [" ".join(["word"] * (1 + number % 7)) for number in range(texts)]
    groups, order = tokenize(tokenizer, words, GROUP, count)
    assert len(groups) == count
    assert all(len(group) for group in groups)
    width = max(group.shape[1] for group in groups)
    padded = torch.cat([torch.nn.functional.pad(group, (0, width - group.shape[1])) for group in groups])[order]
    alone, places = tokenize(tokenizer, words, texts, 1)
    assert torch.equal(padded, alone[0][places])
