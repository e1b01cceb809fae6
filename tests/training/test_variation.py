"""How images are varied: all at once, but as if block by block, and without waiting for a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training import plain_augment
from tests.training.conftest import further, write_config
from training.config import Augmentation, load_config
from training.data.augment import augment
from training.data.variation import Block, draw_variation
from training.loop import augmenter
from training.loop.setup import setup

# What a GPU is waited for: sizes or values that only it knows.
WAITS = {"nonzero", "masked_select", "_local_scalar_dense", "is_nonzero", "item", "unique2", "repeat_interleave"}


def stored(count: int, side: int, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, aspects and which images are transparent, a share of them."""
    generator = torch.Generator().manual_seed(count)
    pixels = torch.randint(256, (count, side, side, 4), dtype=torch.uint8, generator=generator)
    transparent = torch.rand(count, generator=generator) < share
    pixels[~transparent, ..., 3] = 255
    return pixels, torch.rand(count, generator=generator) * 1.5 + 0.5, transparent


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("count", "block", "side"), [(64, 64, 32), (130, 64, 40), (37, 8, 47), (9, 8, 24)])
@pytest.mark.parametrize("config", [Augmentation(), Augmentation(blur=1, erasing=1, grayscale=0.5)], ids=["", "all"])
def test_images_are_varied_as_they_were_block_by_block(
    count: int, block: int, side: int, share: float, config: Augmentation
) -> None:
    pixels, aspects, transparent = stored(count, 32, share)
    blocks = [Block(min(block, count - start), 100 + start) for start in range(0, count, block)]
    expected, start = [], 0
    for each in blocks:
        part, generator = slice(start, start + each.count), torch.Generator().manual_seed(each.seed)
        given = pixels[part], aspects[part], transparent[part], side, 0.4
        expected.append(plain_augment.augment(*given, generator, config))
        start += each.count
    variation = draw_variation(aspects, transparent, blocks, 0.4, config)
    assert torch.equal(augment(pixels, variation, side), torch.cat(expected))
    first = slice(block, min(count, 2 * block))
    if first.stop > first.start:
        assert torch.equal(augment(pixels[first], variation.of(first), side), torch.cat(expected)[first])


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_augmentation_computes_nothing_that_a_gpu_is_waited_for() -> None:
    pixels, aspects, transparent = stored(256, 32, 0.3)
    with Operations() as before:
        for start in range(0, 256, 64):
            part, generator = slice(start, start + 64), torch.Generator().manual_seed(start)
            plain_augment.augment(pixels[part], aspects[part], transparent[part], 32, 0.4, generator)
    variation = draw_variation(aspects, transparent, [Block(64, start) for start in range(0, 256, 64)], 0.4)
    with Operations() as now:
        augment(pixels, variation, 32)
    assert len(before.names) > 6 * len(now.names)
    assert WAITS & set(before.names)
    # Which images are blurred is asked of the CPU: nothing else.
    assert [name for name in now.names if name in WAITS] == ["nonzero"] * 2
    assert variation.map(lambda tensor: tensor.to("meta")).blurred.device.type == "cpu"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_images_look_the_same_however_many_are_varied_at_once(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    changes = further(tiny, accumulate=accumulate, batch_size=36)  # blocks of 8 and one of 4
    trainer = setup(load_config(write_config(colours, **changes)), tmp_path / "run", colours)
    micro_batches = trainer.loader.load(1).micro_batches
    seen, calls = [], []
    monkeypatch.setattr(augmenter, "augment", lambda *given: calls.append(len(given[0])) or augment(*given))
    for work_bytes in (0, 2**40):
        monkeypatch.setitem(augmenter.WORK_BYTES, "cpu", work_bytes)
        seen.append(torch.cat([trainer.unit.augmenter.augment(each, 1) for each in micro_batches]))
    assert torch.equal(*seen)
    assert calls == {1: [8, 8, 8, 8, 4, 36], 2: [8, 8, 8, 8, 4, 24, 12]}[accumulate]
