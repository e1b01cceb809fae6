"""Processes that write to and read from one mapping of the cache and are killed, one after another, while they do.

Run as `python -m tests.service.shared_memory_hammer KILLS`; prints hits, misses and wrong vectors of all of them, and
what the mapping holds at the end: vectors that are right, and those that are wrong. They are forked, since to start an
interpreter takes longer than all else here.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from mmap import mmap

import numpy as np

from service.cache.shared_memory_tier import SharedMemoryTier
from service.cache.value import Vector

KEYS, PROCESSES = 60, 4
WIDTHS = (64, 4_000, 20_000)  # the longer, the more often two writes, or a write and a read, are at once
BYTES = 2**20  # a part of all of them


def vector_of(number: int) -> Vector:
    """The one vector of a key; its numbers are found in no other."""
    width = WIDTHS[number % len(WIDTHS)]
    return number * 2**15 + np.arange(width, dtype=np.float32) % 2**15


def key_of(number: int) -> str:
    return f"digest:image:cpu:{number:064x}"


def hammer(memory: mmap, counts: np.ndarray, seed: int) -> None:
    """Store and look up for ever; `counts` are hits, misses, and wrong vectors."""
    tier, rng = SharedMemoryTier(memory, 3600), random.Random(seed)
    expected = [vector_of(number) for number in range(KEYS)]
    while True:
        number = rng.randrange(KEYS)
        if rng.random() < 0.5:
            tier.put(key_of(number), expected[number])
        elif (found := tier.get(key_of(number))) is None:
            counts[1] += 1
        else:
            counts[0 if np.array_equal(found, expected[number]) else 2] += 1


def start(memory: mmap, counts: np.ndarray, seed: int) -> int:
    """Fork one; its process id."""
    if process := os.fork():
        return process
    try:
        hammer(memory, counts, seed)
    finally:
        os._exit(1)


def main() -> None:
    kills = int(sys.argv[1])
    memory, shared, rng = mmap(-1, BYTES), mmap(-1, 2**16), random.Random(0)
    counts = np.frombuffer(shared, np.int64).reshape(-1, 4)
    running = [start(memory, counts[number], number) for number in range(PROCESSES)]
    for kill in range(kills):
        time.sleep(rng.uniform(0.01, 0.1))
        os.kill(running[0], signal.SIGKILL)
        ended, status = os.waitpid(running.pop(0), 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, f"{ended} has ended by itself: {status}"
        running.append(start(memory, counts[PROCESSES + kill], PROCESSES + kill))
    for process in running:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    tier = SharedMemoryTier(memory, 3600)
    left = [(number, found) for number in range(KEYS) if (found := tier.get(key_of(number))) is not None]
    right = sum(np.array_equal(found, vector_of(number)) for number, found in left)
    for number in range(len(WIDTHS)):  # whatever the dead have left, it goes on
        tier.put(key_of(number), vector_of(number))
        assert np.array_equal(tier.get(key_of(number)), vector_of(number))
    print(*counts.sum(axis=0)[:3].tolist(), right, len(left) - right)


if __name__ == "__main__":
    main()
