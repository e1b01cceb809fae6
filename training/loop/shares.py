"""How the pictures and texts of a batch are divided among processes, and again into chunks.

Pictures are divided by blocks, whose augmentation and dropped patches are drawn from a seed of their own: what a
picture looks like depends on its place in the batch, never on how many processes or chunks there are.
"""

from __future__ import annotations

from itertools import pairwise

from training.config import ConfigError

SMALLEST, LARGEST, PARTS = 8, 64, 32


def block_size(batch_size: int) -> int:
    """Pictures of a block: a 32nd of the batch, but at least 8 and at most 64."""
    return min(batch_size, max(SMALLEST, min(LARGEST, batch_size // PARTS)))


def blocks(batch_size: int) -> list[slice]:
    """The blocks of a batch, in order."""
    size = block_size(batch_size)
    return [slice(start, min(start + size, batch_size)) for start in range(0, batch_size, size)]


def check_shares(batch_size: int, processes: int, chunks: int) -> None:
    """Raise ConfigError where there are fewer blocks than shares."""
    there = len(blocks(batch_size))
    if processes * chunks > there:
        raise ConfigError(
            f"batch_size {batch_size} can be divided {there} times, not among {processes} processes in {chunks} "
            "chunks each: raise batch_size, or lower accumulate or the number of processes"
        )


def split(count: int, parts: int) -> list[slice]:
    """`count` things in `parts` runs as even as can be, the longer ones first; some are empty where things are few."""
    each, more = divmod(count, parts)
    ends = [number * each + min(number, more) for number in range(parts + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def picture_shares(batch_size: int, processes: int, chunks: int) -> list[list[list[slice]]]:
    """For each process and each of its chunks, the blocks that are in it."""
    whole = blocks(batch_size)
    of_processes = [whole[share] for share in split(len(whole), processes)]
    return [[mine[chunk] for chunk in split(len(mine), chunks)] for mine in of_processes]


def span(parts: list[slice]) -> slice:
    """From the first to the last of neighbouring parts."""
    return slice(parts[0].start, parts[-1].stop)
