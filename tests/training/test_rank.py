"""RankCLIP: its consistency against a double loop in float64, its ties, its parts of a batch, its weights and ramps."""

from __future__ import annotations

import math
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from training.config import ConfigError, Objective
from training.config.optimization import Rank
from training.data.collate import Batch
from training.data.matches import match_drawn
from training.objectives import build_objective
from training.objectives.objective import ALL, LocalRows
from training.objectives.rank import list_mle

DRAWN = [4, 0, 2, 0, 1, 4, 0, 5]  # of six texts, two of which several samples have, and one none: it was only added
AT_ONCE = {"cross_ramp": (0, 0), "in_ramp": (0, 0)}


def batch_of(missing: tuple[int, ...] = ()) -> Batch:
    drawn = np.array(DRAWN)
    texts = [f"text {number}" for number in range(6)]
    counts = torch.bincount(torch.tensor(DRAWN), minlength=6)
    batch = Batch(np.arange(8), texts, torch.tensor(DRAWN), counts, match_drawn(drawn, 6))
    return batch.without(torch.isin(torch.arange(8), torch.tensor(missing))) if missing else batch


def unit(count: int, seed: int) -> Tensor:
    drawn = torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return F.normalize(drawn, dim=1).requires_grad_()


def leaves() -> tuple[Tensor, Tensor, Tensor]:
    return unit(8, 0), unit(6, 1), torch.tensor(7.0, dtype=torch.float64).log().requires_grad_()


def added(batch: Batch, local: LocalRows = ALL, progress: float = 0.0, **settings: Any) -> list[Tensor]:
    """What ranking adds to the softmax, and its gradients by images, texts and scale."""
    image, text, log_scale = given = leaves()
    network = SimpleNamespace(logit_scale=log_scale, logit_bias=None)
    losses = [
        build_objective(Objective(kind=kind, **extra)).loss((image, text), network, batch, local, progress)
        for kind, extra in (("rank", {"rank": Rank(**settings)}), ("contrastive", {}))
    ]
    value = losses[0] - losses[1]
    return [value.detach(), *torch.autograd.grad(value, given)]


def plain(missing: tuple[int, ...], across: float, within: float, rows: range = range(8)) -> list[Tensor]:
    """The same by the definition: every sample, every place, everyone who is left."""
    image, text, log_scale = given = leaves()
    scale, present = log_scale.exp(), [i for i in range(8) if i not in missing]
    total = 0 * scale
    for i in present:
        if i not in rows:
            continue
        own, said = image[i], text[DRAWN[i]]
        texts_by_image = [scale * own @ text[DRAWN[j]] for j in present]
        images_by_text = [scale * said @ image[j] for j in present]
        images_by_image = [scale * own @ image[j] for j in present]
        texts_by_text = [scale * said @ text[DRAWN[j]] for j in present]
        total = total + across * (unlikely(texts_by_image, images_by_text) + unlikely(images_by_text, texts_by_image))
        total = total + within * (unlikely(images_by_image, texts_by_text) + unlikely(texts_by_text, images_by_image))
    value = total / len(present)
    return [value.detach(), *torch.autograd.grad(value, given)]


def unlikely(scores: list[Tensor], reference: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for score, place in zip(scores, reference, strict=True):
        left = [other for other, its in zip(scores, reference, strict=True) if its <= place]
        total = total - torch.log(torch.exp(score) / sum(torch.exp(other) for other in left))
    return total / len(scores)


@pytest.mark.parametrize("missing", [(), (1, 5), tuple(range(7))], ids=str)
@pytest.mark.parametrize(("across", "within"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_consistency_and_its_gradients_are_those_of_a_double_loop(
    missing: tuple[int, ...], across: float, within: float
) -> None:
    found = added(batch_of(missing), cross_weight=across, in_weight=within, **AT_ONCE)
    for one, other in zip(found, plain(missing, across, within), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_shares_of_processes_are_parts_of_the_whole() -> None:
    parts = [LocalRows(slice(0, 3), slice(0, 4)), LocalRows(slice(3, 8), slice(4, 6))]
    shares = [added(batch_of((1,)), part) for part in parts]
    whole = added(batch_of((1,)))
    for number, part in enumerate(whole):
        torch.testing.assert_close(shares[0][number] + shares[1][number], part, rtol=1e-9, atol=1e-12)
    expected = plain((1,), 0.3, 0.7, range(3))
    found = added(batch_of((1,)), parts[0], cross_weight=0.3, in_weight=0.7, **AT_ONCE)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-12)


def test_a_batch_without_any_image_adds_nothing() -> None:
    found = added(batch_of(tuple(range(8))), **AT_ONCE)
    assert all(float(each.abs().max()) == 0 for each in found)


def test_the_likelihoods_of_all_orders_are_one_together() -> None:
    scores = torch.tensor([0.3, -1.2, 2.0, 0.7], dtype=torch.float64)
    orders = torch.tensor(list(permutations(range(4))), dtype=torch.float64)  # each row is what all are ranked by
    likelihoods = (-4 * list_mle(scores.expand(len(orders), -1), orders)).exp()
    assert float(likelihoods.sum()) == pytest.approx(1, abs=1e-12)
    best = orders[likelihoods.argmax()]
    assert best.argsort().tolist() == scores.argsort().tolist()


def test_no_order_is_asked_for_among_equals() -> None:
    reference = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    scores = torch.tensor([[0.4, 1.9, -0.6, 0.1, 0.2]], dtype=torch.float64)
    found = {float(list_mle(scores[:, list(order)], reference)) for order in permutations(range(5)) if order[0] == 0}
    middle = [[0, *order, 4] for order in permutations((1, 2, 3))]
    assert len({round(float(list_mle(scores[:, order], reference)), 12) for order in middle}) == 1
    assert len({round(each, 12) for each in found}) == 4  # who is last still counts
    level = list_mle(torch.full((1, 5), 0.7), torch.zeros(1, 5))
    assert float(level) == pytest.approx(math.log(5))


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_large_scores_are_as_exact_as_small_ones(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, reference = (scale * (2 * torch.rand(3, 150, generator=generator) - 1) for _ in range(2))
    scores.requires_grad_()
    found = list_mle(scores, reference)
    exact = scores.detach().double().requires_grad_()
    expected = list_mle(exact, reference.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    [gradient], [right] = torch.autograd.grad(found.sum(), scores), torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(gradient.double(), right, rtol=1e-3, atol=1e-6)
    if scale < 500:  # of which the exponential is a number
        naive = torch.stack([unlikely(list(row), list(by)) for row, by in zip(exact, reference, strict=True)])
        torch.testing.assert_close(naive, expected, rtol=1e-9, atol=0)


def test_an_order_has_no_gradient() -> None:
    scores, reference = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    list_mle(scores, reference).sum().backward()
    assert reference.grad is None
    assert scores.grad is not None


def test_weights_and_ramps_are_those_of_the_settings() -> None:
    across, within = (float(plain((), *weights)[0]) for weights in ((1, 0), (0, 1)))
    batch = batch_of()
    for progress, share in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        settings = {"cross_weight": 0.2, "cross_ramp": (0, 0.5), "in_weight": 0.4, "in_ramp": (0, 0)}
        found = float(added(batch, progress=progress, **settings)[0])
        assert found == pytest.approx(0.2 * share * across + 0.4 * within, rel=1e-9)
    late = {"cross_weight": 0.0, "in_weight": 1.0, "in_ramp": (0.2, 0.6)}
    found = [float(added(batch, progress=progress, **late)[0]) / within for progress in (0.1, 0.3, 0.6)]
    assert found == pytest.approx([0, 0.25, 1])
    whole = float(added(batch, progress=0.8)[0])  # by default 3 / 32 of the run that is done, at most 2 / 32
    assert whole == pytest.approx((across + within) / 16, rel=1e-9)
    assert float(added(batch, progress=0.2)[0]) == pytest.approx(0.2 * 3 / 32 * (across + within), rel=1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": {"cross_weight": 1.0}}, "rank is of another kind than contrastive: set kind to rank"),
        ({"kind": "sigmoid", "rank": {"in_ramp": [0, 0]}}, "rank is of another kind than sigmoid"),
        ({"kind": "rank", "rank": {"in_ramp": [0.5, 0.2]}}, "begins at 0.5 and is done before, at 0.2"),
        ({"kind": "rank", "rank": {"cross_weight": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_is_of_another_kind_or_out_of_order_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Objective.model_validate(fields)


def test_a_section_that_says_what_is_the_default_is_of_any_kind() -> None:
    """A run keeps its configuration with every field."""
    kept = Objective.model_validate("sigmoid").model_dump(mode="json")
    assert Objective.model_validate(kept) == Objective(kind="sigmoid")
    own = Objective(kind="rank", rank=Rank(cross_weight=0.5))
    assert Objective.model_validate_json(own.model_dump_json()) == own


def test_a_network_that_was_trained_pair_by_pair_is_refused() -> None:
    network = SimpleNamespace(logit_bias=torch.tensor(-3.0))
    with pytest.raises(ConfigError, match=r"set objective\.kind to sigmoid"):
        build_objective(Objective(kind="rank")).initialize(network)
