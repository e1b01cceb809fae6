"""Llip's loss: against a double loop and against SigLIP's, in tiles and in shares, and whose its parameters are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import MixtureConfig
from model.network import CLIP, build_network, loss_parameters
from tests.training.conftest import TINY
from training.config import Lock, Optimizer
from training.loop.optimizer import build_optimizer, layer_depths
from training.loop.towers import TowerFreezing
from training.objectives import llip
from training.objectives.llip import llip_loss
from training.objectives.objective import ALL, LocalRows
from training.objectives.sigmoid import sigmoid_loss

IMAGES, TEXTS, TOKENS, DIM = 7, 5, 3, 32
MIXTURE = MixtureConfig(tokens=TOKENS, heads=2, temperature=0.5)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def network_of(mixture: MixtureConfig, spread: float = 0.2) -> CLIP:
    torch.manual_seed(2)
    network = build_network(TINY.model_copy(update={"mixture": mixture}))
    assert isinstance(network, CLIP)
    assert network.mixture is not None
    for parameter in network.mixture.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    network.logit_bias = torch.nn.Parameter(torch.tensor(-3.0))
    return network


def masks(seed: int = 5) -> tuple[Tensor, Tensor]:
    """Texts that are true of several images, pairs that take no part, and an image that is missing."""
    drawn = torch.arange(IMAGES) % TEXTS
    positive = F.one_hot(drawn, TEXTS).bool()
    positive[0, 3] = True
    ignored = (torch.rand(IMAGES, TEXTS, generator=torch.Generator().manual_seed(seed)) < 0.2) & ~positive
    positive[4], ignored[4] = False, True
    return positive, ignored


def plain_loss(images: Tensor, texts: Tensor, network: CLIP, positive: Tensor, ignored: Tensor) -> Tensor:
    """The formula, pair by pair."""
    mixture, width = network.mixture, DIM // MIXTURE.heads
    assert mixture is not None
    assert network.logit_bias is not None
    total, present = torch.zeros((), dtype=images.dtype), 0
    for i, image in enumerate(images):
        present += int(positive[i].any())
        for j, text in enumerate(texts):
            if ignored[i, j]:
                continue
            heads = []
            for head in range(MIXTURE.heads):
                columns = slice(head * width, (head + 1) * width)
                asked = text @ mixture.query[:, columns]
                scores = [DIM / MIXTURE.temperature * (asked @ (token @ mixture.key[:, columns])) for token in image]
                shares = torch.stack(scores).softmax(dim=0)
                heads.append(shares @ torch.stack([token @ mixture.value[:, columns] for token in image]))
            mixed = torch.cat(heads) @ mixture.output
            cosine = mixed @ text / mixed.norm()
            logit = network.logit_scale.exp() * cosine + network.logit_bias
            total = total - torch.log(torch.sigmoid(logit if positive[i, j] else -logit))
    return total / present


def with_gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def test_loss_and_gradients_are_those_of_a_double_loop() -> None:
    network = network_of(MIXTURE).double()
    leaves = [unit(IMAGES, TOKENS, DIM).double(), unit(TEXTS, DIM, seed=1).double()]
    image, text = (leaf.requires_grad_() for leaf in leaves)
    learned = [image, text, *loss_parameters(network).values()]
    assert len(learned) == 2 + 2 + 4
    ours = with_gradients(llip_loss(image, text, network, *masks()), *learned)
    theirs = with_gradients(plain_loss(image, text, network, *masks()), *learned)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
    assert all(gradient.abs().max() > 1e-6 for gradient in ours[1:])


@pytest.mark.parametrize("rows", [ALL, LocalRows(slice(2, 6), slice(1, 4))], ids=["all", "part"])
@pytest.mark.parametrize(("most", "tiles"), [(40, IMAGES * TEXTS), (400, IMAGES), (1500, 4)])
def test_tiles_have_the_same_loss_and_gradients_in_less_memory(
    monkeypatch: pytest.MonkeyPatch, rows: LocalRows, most: int, tiles: int
) -> None:
    network, calls = network_of(MIXTURE).double(), []

    def run() -> tuple[list[Tensor], int]:
        leaves = [unit(IMAGES, TOKENS, DIM).double(), unit(TEXTS, DIM, seed=1).double()]
        image, text = (leaf.requires_grad_() for leaf in leaves)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            loss = llip_loss(image, text, network, *masks(), rows)
        return with_gradients(loss, image, text, *loss_parameters(network).values()), sum(kept)

    whole, largest = run()
    monkeypatch.setattr(llip, "MAX_NUMBERS", most)
    monkeypatch.setattr(llip, "checkpoint", lambda *given, **more: calls.append(given) or CHECKPOINT(*given, **more))
    parts, smallest = run()
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one)
    if rows is ALL:
        assert len(calls) == tiles
    assert smallest < 0.7 * largest


CHECKPOINT = llip.checkpoint


def test_shares_of_rows_add_up_to_the_loss_of_the_batch() -> None:
    network = network_of(MIXTURE)
    image, text = unit(IMAGES, TOKENS, DIM), unit(TEXTS, DIM, seed=1)
    shares = [llip_loss(image, text, network, *masks(), LocalRows(part, part)) for part in (slice(0, 3), slice(3, 7))]
    torch.testing.assert_close(sum(shares), llip_loss(image, text, network, *masks()))


def towers(mixed: CLIP, plain: CLIP) -> tuple[list[Tensor], list[Tensor]]:
    """Loss and gradients of all that both networks have: Llip's of the first, SigLIP's of the second."""
    torch.manual_seed(0)
    pixels, ids = torch.randn(IMAGES, 3, 32, 32), torch.randint(1, 1000, (TEXTS, 9))
    names = [name for name, _ in plain.named_parameters()]
    found = []
    for network, tokens in ((mixed, True), (plain, False)):
        image, text = network(pixels, ids)
        assert network.logit_bias is not None
        loss = (
            llip_loss(image, text, network, *masks())
            if tokens
            else sigmoid_loss(image, text, network.logit_scale.exp(), network.logit_bias, *masks())
        )
        parameters = dict(network.named_parameters())
        found.append(with_gradients(loss, *(parameters[name] for name in names)))
    return found[0], found[1]


@pytest.mark.parametrize("temperature", [5.0, 0.1])
def test_one_token_is_siglip(temperature: float) -> None:
    """Whatever the temperature: the only weight is 1. Values and output begin as the identity."""
    mixed = network_of(MixtureConfig(tokens=1, heads=2, temperature=temperature), spread=0)
    plain = CLIP(TINY)
    plain.logit_bias = torch.nn.Parameter(torch.tensor(-3.0))
    mixed.load_state_dict(plain.state_dict(), strict=False)
    for one, other in zip(*towers(mixed, plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_temperature_that_makes_mixing_constant_is_siglip_of_the_mean() -> None:
    """At the limit all weights are 1 / tokens, whatever W_Q and W_K are, and neither has a gradient."""
    network = network_of(MixtureConfig(tokens=TOKENS, heads=2, temperature=1e6), spread=0)
    assert network.mixture is not None
    image, text = unit(IMAGES, TOKENS, DIM).requires_grad_(), unit(TEXTS, DIM, seed=1).requires_grad_()
    assert network.logit_bias is not None
    learned = image, text, network.logit_scale, network.logit_bias
    ours = with_gradients(llip_loss(image, text, network, *masks()), *learned)
    mean = F.normalize(image.mean(dim=1), dim=-1)
    loss = sigmoid_loss(mean, text, network.logit_scale.exp(), network.logit_bias, *masks())
    for one, other in zip(ours, with_gradients(loss, *learned), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.autograd.backward(llip_loss(image, text, network, *masks()))
    assert network.mixture.query.grad is not None
    assert network.mixture.query.grad.abs().max() < 1e-4 * network.mixture.value.grad.abs().max()


def test_what_belongs_to_the_loss_is_of_no_tower() -> None:
    network = network_of(MIXTURE)
    optimizer = build_optimizer(network, Optimizer(layer_decay=0.5, weight_decay=0.3))
    of = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    groups = {name: of[id(parameter)] for name, parameter in network.named_parameters()}
    assert {layer_depths(network)[name][0] for name in loss_parameters(network)} == {""}
    assert (groups["mixture.query"]["factor"], groups["mixture.query"]["weight_decay"]) == (1, 0.3)
    assert groups["visual.mixture_tokens"]["factor"] == groups["visual.class_embedding"]["factor"] < 0.1
    assert groups["visual.mixture_tokens"]["weight_decay"] == 0
    freezing = TowerFreezing(network, Lock(image=(1.0, 1.0)), 10)
    freezing.apply(0)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert loss_parameters(network).keys() <= learning
    assert not any(name.startswith("visual.") for name in learning)
