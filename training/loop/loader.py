"""The inputs of each step, which a thread reads while the step before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.prefetch import prefetch
from model.tokenizers.clip import TextTokenizer
from training.config import TrainConfig
from training.data.collate import Batch, Images
from training.loop.batch_partition import partition_images, span, split
from training.loop.processes import Processes

TEXT_GROUP = 128  # texts of similar length that are padded together


@dataclass(frozen=True)
class SeededBlock:
    """Neighbouring images of a batch as they are stored, with the seed of all that is drawn at random for them."""

    images: Images
    seed: int


@dataclass(frozen=True)
class MicroBatch:
    """The images and texts that one pass through the towers takes."""

    blocks: list[SeededBlock]
    texts: list[str]  # never none: where there are fewer texts than micro-batches, one that another one has
    token_ids: list[Tensor]  # [group, length] each, by length
    text_order: Tensor  # [texts] their places among the groups
    text_count: int  # texts that are its own


@dataclass(frozen=True)
class StepInputs:
    """The batch of a step without its images, and those of this process by micro-batch.

    `image_slices` and `text_slices` say which rows of the batch are of which process.
    """

    step: int  # counted from 0
    batch: Batch
    micro_batches: list[MicroBatch]
    image_slices: list[slice]
    text_slices: list[slice]


class BatchSource(Protocol):
    """Where batches come from: a training set."""

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a step."""

    def images(self, items: npt.NDArray[np.int64]) -> Images:
        """The images of some items of a batch, in their order."""


class Loader:
    """Step inputs as a pure function of the step, so that reading ahead and resuming change nothing."""

    def __init__(self, config: TrainConfig, data: BatchSource, tokenizer: TextTokenizer, processes: Processes) -> None:
        self._config, self._data, self._tokenizer, self._processes = config, data, tokenizer, processes
        self._partition = partition_images(config.batch_size, processes.count, config.accumulate)
        self._executor = ThreadPoolExecutor(1, "loader")

    def iterate(self, first: int) -> Iterator[StepInputs]:
        """The inputs of the steps from `first` to the last one, read one step ahead."""
        return prefetch(self._executor, self.load, range(first, self._config.steps), depth=1)

    def close(self) -> None:
        """Stop reading ahead."""
        self._executor.shutdown(cancel_futures=True)

    def load(self, step: int) -> StepInputs:
        """The inputs of one step."""
        batch = self._data.batch(step, self._config.batch_size)
        text_slices = split(len(batch.texts), self._processes.count)
        local_texts = text_slices[self._processes.rank]
        micro_batches = [
            self._micro_batch(step, batch, blocks, slice(local_texts.start + part.start, local_texts.start + part.stop))
            for blocks, part in zip(
                self._partition[self._processes.rank],
                split(local_texts.stop - local_texts.start, self._config.accumulate),
                strict=True,
            )
        ]
        image_slices = [slice(parts[0][0].start, parts[-1][-1].stop) for parts in self._partition]
        return StepInputs(step, batch, micro_batches, image_slices, text_slices)

    def _micro_batch(self, step: int, batch: Batch, blocks: list[slice], text_slice: slice) -> MicroBatch:
        rows = span(blocks)
        images = self._data.images(batch.items[rows])
        first_seed = (self._config.seed * 1_000_003 + step) * 1_000_003 % 2**62
        seeded = [
            SeededBlock(self._cut(images, block.start - rows.start, block.stop - rows.start), first_seed + block.start)
            for block in blocks
        ]
        texts = batch.texts[text_slice]
        count = len(texts)
        texts = texts or batch.texts[:1]
        token_ids, order = tokenize(self._tokenizer, texts)
        return MicroBatch(seeded, texts, token_ids, order, count)

    def _cut(self, images: Images, start: int, stop: int) -> Images:
        parts = [getattr(images, field.name)[start:stop] for field in fields(images)]
        return Images(*((part.pin_memory() for part in parts) if self._processes.device.type == "cuda" else parts))


def tokenize(tokenizer: TextTokenizer, texts: list[str]) -> tuple[list[Tensor], Tensor]:
    """Padded token ids in groups of similar length, since most texts are short, and the place of each text among them.

    Texts longer than the context are cut.
    """
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(texts)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups = [order[i : i + TEXT_GROUP] for i in range(0, len(order), TEXT_GROUP)]
    padded = [torch.from_numpy(tokenizer.pad([rows[i] for i in group])) for group in groups]
    return padded, torch.tensor(order).argsort()
