"""The partition of a batch: which of its images and texts each process computes, in which micro-batches.

Images are divided by blocks, whose augmentation and dropped patches are drawn from a seed of their own: what an image
looks like depends on its place in the batch, never on how many processes or micro-batches there are.
"""

from __future__ import annotations

from itertools import pairwise

from training.config import ConfigError

MIN_BLOCK, MAX_BLOCK, BLOCKS = 8, 64, 32


def block_size(batch_size: int) -> int:
    """Images of a block: a 32nd of the batch, but at least 8 and at most 64."""
    return min(batch_size, max(MIN_BLOCK, min(MAX_BLOCK, batch_size // BLOCKS)))


def blocks(batch_size: int) -> list[slice]:
    """The blocks of a batch, in order."""
    size = block_size(batch_size)
    return [slice(start, min(start + size, batch_size)) for start in range(0, batch_size, size)]


def check_partition(batch_size: int, processes: int, micro_batches: int) -> None:
    """Raise ConfigError where there are fewer blocks than micro-batches of all processes."""
    count = len(blocks(batch_size))
    if processes * micro_batches > count:
        raise ConfigError(
            f"batch_size {batch_size} can be divided {count} times, not among {processes} processes in {micro_batches} "
            "chunks each: raise batch_size, or lower accumulate or the number of processes"
        )


def split(count: int, parts: int) -> list[slice]:
    """`count` rows in `parts` slices as even as can be, the longer ones first; some are empty where rows are few."""
    size, longer = divmod(count, parts)
    ends = [number * size + min(number, longer) for number in range(parts + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def partition_images(batch_size: int, processes: int, micro_batches: int) -> list[list[list[slice]]]:
    """For each process and each of its micro-batches, the blocks that are in it."""
    everything = blocks(batch_size)
    of_processes = [everything[part] for part in split(len(everything), processes)]
    return [[own[part] for part in split(len(own), micro_batches)] for own in of_processes]


def span(parts: list[slice]) -> slice:
    """From the first to the last of neighbouring slices."""
    return slice(parts[0].start, parts[-1].stop)
