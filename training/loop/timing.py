"""How long a step takes: real steps of made-up pictures, several times after some that warm up."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from model.network import Network
from training.config import TrainConfig
from training.data.batch import Batch, Pictures
from training.loop.loading import Loader
from training.loop.optimizer import MovingAverage, build_optimizer
from training.loop.precision import Chosen
from training.loop.processes import Processes
from training.loop.shares import block_size
from training.loop.starting import Beginning
from training.loop.step import Stepper

WARM_UP, REPEATS, LEAST = 2, 5, 2  # steps: not counted, counted, counted however long they take
BUDGET_S = 20.0  # after which no further step is taken
STEP_S = 4.0  # a larger batch is timed in part
FEWEST = 32  # pictures that are timed together in any case: fewer are slower each
STEP_BYTES = 2 * 2**30  # of activations, likewise
CAPTION = "a photo of a thing number {} that lies on a table"  # about as many tokens as captions have


@dataclass(frozen=True)
class Timing:
    """Seconds of a whole step, the fastest and the slowest but one, and how many were taken, of how many pictures."""

    fastest: float
    slowest: float
    repeats: int
    pictures: int


@dataclass
class MadeUp:
    """Stands for a training set: every picture is noise and has a caption of its own."""

    store_pixels: int
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def batch(self, step: int, size: int) -> Batch:
        """`size` pictures with as many texts."""
        own, ones = torch.eye(size, dtype=torch.bool), torch.ones(size, dtype=torch.int64)
        texts = [CAPTION.format(number) for number in range(size)]
        return Batch(np.arange(size), texts, torch.arange(size), ones, own, torch.zeros_like(own))

    def pictures(self, items: npt.NDArray[np.int64]) -> Pictures:
        """Opaque squares."""
        shape, count = (len(items), self.store_pixels, self.store_pixels, 4), len(items)
        rgba = torch.randint(256, shape, generator=self.generator, dtype=torch.uint8)
        rgba[..., 3] = 255
        yes = torch.ones(count, dtype=torch.bool)
        return Pictures(rgba, torch.ones(count), ~yes, yes)


def time_steps(
    config: TrainConfig, beginning: Beginning, network: Network, precision: Chosen, step: int, *, mine: int, most: int
) -> Timing:
    """Time step number `step` of `config` by one process with `mine` pictures; of more than `most`, that many.

    Changes the weights of `network`, which must be on its device.
    """
    size = max(min(mine, most), min(mine, 8 * config.accumulate))
    size -= size % block_size(size) if size < mine else 0
    changed = {"batch_size": max(2, size), "compile": False}  # which would take minutes
    timed = config.model_copy(update=changed)
    processes = Processes(0, 1, network.logit_scale.device, False)
    stepper = Stepper(timed, network, beginning.preprocessing, processes)
    optimizer, average = build_optimizer(network, timed.optimizer), MovingAverage(network, timed.ema_decay)
    stepper.begin(precision, optimizer, average)
    loader = Loader(timed, MadeUp(config.data.store_pixels), beginning.tokenizer, processes)
    work = loader.work(step)
    loader.close()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < WARM_UP + REPEATS:
        if len(times) > LEAST and time.perf_counter() - began > BUDGET_S:
            break
        start = time.perf_counter()
        stepper(step, work)  # reads the loss, which waits for a GPU
        times.append(time.perf_counter() - start)
    counted = sorted(times[WARM_UP if len(times) > WARM_UP + 1 else 1 :])
    scale = mine / timed.batch_size
    slowest = counted[-2] if len(counted) > LEAST else counted[-1]  # one may have met something else that ran
    return Timing(scale * counted[0], scale * slowest, len(counted), timed.batch_size)


def most_at_once(seconds: float, nbytes: int) -> int:
    """Pictures whose step is timed as a whole, where one takes `seconds` and `nbytes` of activations."""
    return max(FEWEST, min(math.floor(STEP_S / max(seconds, 1e-9)), STEP_BYTES // max(1, nbytes)))
