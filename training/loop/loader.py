"""The inputs of each step, which threads and processes draw and read while the steps before it run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.prefetch import prefetch
from model.tokenizers.clip import TextTokenizer
from training.config import TrainConfig
from training.config.captions import STORED
from training.data.collate import Batch, Images
from training.data.images import CALLS
from training.data.variation import Block, Variation, draw_variation
from training.loop.batch_partition import partition_images, span, split
from training.loop.patch_dropout import PatchDropout
from training.loop.processes import Processes

# A step may be read late by a second or so, of a slow disk or an evaluation, as long as others are read already.
READ_AHEAD_BYTES, MAX_READ_AHEAD = 2**30, 8
# Texts of similar length that are padded together; more where each group costs launches or the gathering of weights.
TEXT_GROUP, LARGE_TEXT_GROUP = 128, 1024


@dataclass(frozen=True)
class MicroBatch:
    """The images and texts that one pass through the towers takes."""

    images: Images
    variation: Variation
    blocks: list[Block]
    texts: list[str]  # never none: where there are fewer texts than micro-batches, one that another one has
    token_ids: list[Tensor]  # [group, length] each, by length; as many groups in each process
    text_order: Tensor  # [texts] their places among the groups
    text_count: int  # texts that are its own
    kept: Tensor | None  # [images, kept] the patches that are looked at; None: all of them
    # Stored vectors of its images and of the texts that are its own, where a teacher's are learned from.
    teacher: tuple[Tensor, Tensor] | None = None


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

    def teacher_vectors(
        self, batch: Batch, images: slice, texts: slice
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The stored vectors of some images [images, dim] and some texts [texts, dim] of a batch, of unit length."""

    def close(self) -> None:
        """End what reads them."""


def read_ahead(config: TrainConfig, processes: int) -> int:
    """Steps that are read ahead: as many as take READ_AHEAD_BYTES in each process, but one at least."""
    images = config.batch_size // processes * 4 * config.data.store_pixels**2
    return max(1, min(MAX_READ_AHEAD, READ_AHEAD_BYTES // images))


class Loader:
    """Step inputs as a pure function of the step, so that reading ahead and resuming change nothing."""

    def __init__(
        self,
        config: TrainConfig,
        data: BatchSource,
        tokenizer: TextTokenizer,
        processes: Processes,
        patch_dropout: PatchDropout | None = None,
    ) -> None:
        self._config, self._data, self._tokenizer, self._processes = config, data, tokenizer, processes
        self._patch_dropout = patch_dropout
        gathers = config.parallel == "fsdp" and processes.count > 1
        self._group_size = LARGE_TEXT_GROUP if gathers or processes.device.type == "cuda" else TEXT_GROUP
        self._partition = partition_images(config.batch_size, processes.count, config.accumulate)
        self._drawing = ThreadPoolExecutor(1, "drawing")
        self._reading = ThreadPoolExecutor(CALLS, "loader")

    def iterate(self, first: int) -> Iterator[StepInputs]:
        """The inputs of the steps from `first` to the last one, read ahead."""
        steps = range(first, self._config.steps)
        drawn = ((step, self._drawing.submit(self._draw, step)) for step in steps)
        return prefetch(self._reading, self._read_drawn, drawn, read_ahead(self._config, self._processes.count))

    def close(self) -> None:
        """Stop reading ahead, and end what reads."""
        self._data.close()
        for executor in (self._drawing, self._reading):
            executor.shutdown(cancel_futures=True)

    def load(self, step: int) -> StepInputs:
        """The inputs of one step."""
        return self._read(step, self._draw(step))

    def _draw(self, step: int) -> Batch:
        return self._data.batch(step, self._config.batch_size)

    def _read_drawn(self, drawn: tuple[int, Future[Batch]]) -> StepInputs:
        step, batch = drawn
        return self._read(step, batch.result())

    def _read(self, step: int, batch: Batch) -> StepInputs:
        text_slices = split(len(batch.texts), self._processes.count)
        local_texts = range(len(batch.texts))[text_slices[self._processes.rank]]
        micro_batches = [
            self._micro_batch(step, batch, blocks, _slice(local_texts[part]), self._group_count(longest))
            for blocks, part, longest in zip(
                self._partition[self._processes.rank],
                split(len(local_texts), self._config.accumulate),
                split(text_slices[0].stop, self._config.accumulate),  # the first process has the longest share
                strict=True,
            )
        ]
        image_slices = [slice(parts[0][0].start, parts[-1][-1].stop) for parts in self._partition]
        return StepInputs(step, batch, micro_batches, image_slices, text_slices)

    def _group_count(self, part: slice) -> int:
        texts: int = part.stop - part.start
        return max(1, math.ceil(texts / self._group_size))

    def _micro_batch(
        self, step: int, batch: Batch, blocks: list[slice], text_rows: slice, text_groups: int
    ) -> MicroBatch:
        rows = span(blocks)
        images = self._data.images(batch.items[rows])
        first_seed = (self._config.seed * 1_000_003 + step) * 1_000_003 % 2**62
        seeded = [Block(block.stop - block.start, first_seed + block.start) for block in blocks]
        settings = self._config.min_crop, self._config.augmentation
        variation = draw_variation(images.aspects, images.transparent, seeded, *settings)
        dropout, pixels = self._patch_dropout, self._config.pixels_at(step)
        texts = batch.texts[text_rows]
        count, texts = len(texts), texts or batch.texts[:1]
        teacher = None
        if self._config.objective.teacher == STORED:
            of_images, of_texts = map(torch.from_numpy, self._data.teacher_vectors(batch, rows, text_rows))
            teacher = self._pin(of_images), self._pin(of_texts)
        token_ids, order = tokenize(self._tokenizer, texts, self._group_size, text_groups)
        return MicroBatch(
            self._pinned(images),
            variation.map(self._pin),
            seeded,
            texts,
            [self._pin(ids) for ids in token_ids],
            self._pin(order),
            count,
            None if dropout is None else self._pin(dropout.draw(seeded, pixels)),
            teacher,
        )

    def _pinned(self, images: Images) -> Images:
        """All at once, as each piece costs a call of the driver."""
        return Images(*(self._pin(getattr(images, field.name)) for field in fields(images)))

    def _pin(self, tensor: Tensor) -> Tensor:
        """As a GPU copies it without being waited for."""
        return tensor.pin_memory() if self._processes.device.type == "cuda" else tensor


def _slice(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop)


def tokenize(tokenizer: TextTokenizer, texts: list[str], size: int, count: int) -> tuple[list[Tensor], Tensor]:
    """Padded token ids in groups of similar length, since most texts are short, and the place of each text among them.

    Groups have `size` texts, and there are `count` of them even if fewer would do: under FSDP each group is a pass that
    all processes take part in. Texts longer than the context are cut.
    """
    rows = [tokenizer.truncate(row) for row in tokenizer.encode(texts)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    while len(groups) < count:  # by one, as shares differ by one text
        groups.append([groups[-1].pop()])
    padded = [torch.from_numpy(tokenizer.pad([rows[i] for i in group])) for group in groups]
    return padded, torch.tensor(order).argsort()
