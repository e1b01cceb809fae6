"""How long a step takes: real steps of synthetic images, several times after some that warm up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from model.network import Network
from model.tokenizers.categories import CategoryTokenizer
from training.config import TrainConfig
from training.data.collate import Batch, Images
from training.data.matches import match_drawn, match_numbers
from training.initial_model import InitialModel
from training.loop.batch_partition import block_size
from training.loop.loader import Loader, StepInputs
from training.loop.optimizer import MovingAverage, build_optimizer
from training.loop.patch_dropout import PatchDropout
from training.loop.precision import ComputePrecision
from training.loop.processes import Processes
from training.loop.towers import SharedTowers
from training.loop.train_unit import TrainUnit
from training.loop.trainer import train_step

WARM_UP, REPEATS, MIN_REPEATS = 2, 5, 2  # steps: not counted, counted, counted however long they take
BUDGET_S = 20.0  # after which no further step is taken
MAX_STEP_S = 4.0  # a larger batch is timed in part
MIN_IMAGES = 32  # that are timed together in any case: fewer are slower each
MAX_STEP_BYTES = 2 * 2**30  # of activations, likewise
CAPTION = "a photo of a thing number {} that lies on a table"  # about as many tokens as captions have


@dataclass(frozen=True)
class Timing:
    """Seconds of a whole step, the fastest and the slowest but one, and how many were taken, of how many images."""

    fastest: float
    slowest: float
    repeats: int
    images: int


@dataclass
class SyntheticData:
    """Stands for a training set: every image is noise and has a caption of its own, or one of the `categories`."""

    store_pixels: int
    categories: Sequence[str] = ()
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def batch(self, step: int, size: int) -> Batch:
        """`size` images with as many texts, or with all categories."""
        if self.categories:
            return self._of_categories(size)
        own, texts = np.arange(size), [CAPTION.format(number) for number in range(size)]
        ones = torch.ones(size, dtype=torch.int64)
        return Batch(own, texts, torch.from_numpy(own), ones, match_drawn(own, size))

    def _of_categories(self, size: int) -> Batch:
        own, count = np.arange(size), len(self.categories)
        drawn = own % count
        times = torch.from_numpy(np.bincount(drawn, minlength=count))
        matches = match_numbers(own, drawn, (size, count))
        return Batch(own, list(self.categories), torch.from_numpy(drawn), times, matches)

    def images(self, items: npt.NDArray[np.int64]) -> Images:
        """Opaque squares."""
        shape, count = (len(items), self.store_pixels, self.store_pixels, 4), len(items)
        rgba = torch.randint(256, shape, generator=self.generator, dtype=torch.uint8)
        rgba[..., 3] = 255
        present = torch.ones(count, dtype=torch.bool)
        return Images(rgba, torch.ones(count), ~present, present)

    def teacher_vectors(
        self, batch: Batch, images: slice, texts: slice
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The same vector of everything."""
        counts = (len(batch.items[images]), len(batch.texts[texts]))
        of_images, of_texts = (np.ones((count, 1), np.float32) for count in counts)
        return of_images, of_texts

    def close(self) -> None:
        """Nothing is read."""


def time_steps(
    config: TrainConfig,
    initial: InitialModel,
    network: Network,
    precision: ComputePrecision,
    step: int,
    *,
    images: int,
    most: int,
    train_step: Callable[[TrainUnit, StepInputs], object] = train_step,
) -> Timing:
    """Time step number `step` of `config` by one process with so many `images`; of more than `most`, that many.

    Changes the weights of `network`, which must be on its device.
    """
    size = max(min(images, most), min(images, 8 * config.accumulate))
    size -= size % block_size(size) if size < images else 0
    changed = {"batch_size": max(2, size), "compile": False}  # which would take minutes
    timed = config.model_copy(update=changed)
    processes = Processes(0, 1, network.logit_scale.device, False)
    towers = SharedTowers(network, initial.preprocessing, timed, processes, precision)
    optimizer, average = build_optimizer(network, timed.optimizer), MovingAverage(network, timed.ema_decay)
    unit = TrainUnit(timed, towers, optimizer, average, precision, processes)
    dropout = PatchDropout.of(timed, network.config)
    known = initial.tokenizer.labels if isinstance(initial.tokenizer, CategoryTokenizer) else ()
    loader = Loader(timed, SyntheticData(config.data.store_pixels, known), initial.tokenizer, processes, dropout)
    inputs = loader.load(step)
    loader.close()
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < WARM_UP + REPEATS:
        if len(times) > MIN_REPEATS and time.perf_counter() - began > BUDGET_S:
            break
        start = time.perf_counter()
        train_step(unit, inputs)  # reads the loss, which waits for a GPU
        times.append(time.perf_counter() - start)
    counted = sorted(times[WARM_UP if len(times) > WARM_UP + 1 else 1 :])
    scale = images / timed.batch_size
    slowest = counted[-2] if len(counted) > MIN_REPEATS else counted[-1]  # one may have met something else that ran
    return Timing(scale * counted[0], scale * slowest, len(counted), timed.batch_size)


def most_at_once(seconds: float, activation_bytes: int, device: torch.device) -> int:
    """Images whose step is timed as a whole, where one takes `seconds` and `activation_bytes` of activations.

    A GPU is as slow with a few as with hundreds: there it is as many as fit into half the memory that is free.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(MIN_IMAGES, free // 2 // max(1, activation_bytes))
    return max(MIN_IMAGES, min(math.floor(MAX_STEP_S / max(seconds, 1e-9)), MAX_STEP_BYTES // max(1, activation_bytes)))
