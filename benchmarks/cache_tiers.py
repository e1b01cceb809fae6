"""python -m benchmarks.cache_tiers: what a lookup in memory costs, and how many a stream hits.

Compared are the tier of one process, the one that workers share, and the shared one behind a small private one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from mmap import mmap

import numpy as np

from service.cache.memory_tier import MemoryTier
from service.cache.shared_memory_tier import SharedMemoryTier
from service.cache.value import Vector

TTL_S = 3600.0
WIDTH = 512
LISTS = (1, 64, 512)
STORED = 20_000  # vectors that lookups are drawn from: more than a processor's caches hold
ROUNDS = 9
LOOKUPS = 10_000  # of a round
PRIVATE_BYTES = 8 * 2**20
STREAM, KEYS = 200_000, 30_000
SHARES = (0.02, 0.1, 0.5)  # of all keys that there is room for


class Behind:
    """A small tier of one process before the shared one."""

    def __init__(self, shared: SharedMemoryTier) -> None:
        self._shared, self._private = shared, MemoryTier(PRIVATE_BYTES, TTL_S)

    def get(self, key: str) -> Vector | None:
        """The vector, from the private tier where it is there."""
        if (found := self._private.get(key)) is None and (found := self._shared.get(key)) is not None:
            self._private.put(key, found)
        return found

    def put(self, key: str, vector: Vector) -> None:
        """Store it in both."""
        self._private.put(key, vector)
        self._shared.put(key, vector)


Tier = MemoryTier | SharedMemoryTier | Behind


def tiers(size: int) -> dict[str, Callable[[], Tier]]:
    """Each kind, with room for so many bytes."""
    return {
        "of one process": lambda: MemoryTier(size, TTL_S),
        "shared": lambda: _shared(size),
        "shared, behind a private one": lambda: Behind(_shared(size)),
    }


def _shared(size: int) -> SharedMemoryTier:
    return SharedMemoryTier(mmap(-1, size), TTL_S)


def key(number: int) -> str:
    """As long as those of the service."""
    return f"{'d' * 64}:image:cpu:{number:064x}"


def core_us(tier: Tier, keys: Sequence[Sequence[str]]) -> float:
    """Least CPU time of this thread for each lookup, in microseconds, of several rounds."""
    lookups = sum(map(len, keys))
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        for each in keys:
            [tier.get(one) for one in each]
        best = min(best, time.thread_time() - started)
    return 1e6 * best / lookups


def zipf(keys: int, length: int, exponent: float = 1.0) -> list[int]:
    """A stream of keys, of which the n-th is asked for as often as 1/n says."""
    rng = np.random.default_rng(0)
    weights = np.arange(1, keys + 1) ** -exponent
    drawn: list[int] = rng.permutation(keys)[rng.choice(keys, length, p=weights / weights.sum())].tolist()
    return drawn


def hit_ratio(tier: Tier, stream: Sequence[int]) -> float:
    """What share of a stream is found, where all that is not found is stored."""
    vector, hits = np.zeros(WIDTH, np.float32), 0
    for number in stream:
        name = key(number)
        if tier.get(name) is not None:
            hits += 1
        else:
            tier.put(name, vector)
    return hits / len(stream)


def main() -> None:
    """Print both tables."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((64, WIDTH)).astype(np.float32)
    lookups = rng.integers(0, STORED, LOOKUPS).tolist()
    skewed = zipf(STORED, LOOKUPS)
    print("core-µs a lookup | " + " | ".join([f"{each} in a list" for each in LISTS] + ["Zipf", "miss", "store"]))
    for name, make in tiers(256 * 2**20).items():
        tier = make()
        for number in range(STORED):
            tier.put(key(number), vectors[number % 64].copy())
        rows = [[[key(each) for each in lookups[at : at + size]] for at in range(0, LOOKUPS, size)] for size in LISTS]
        costs = [core_us(tier, lists) for lists in rows]
        costs.append(core_us(tier, [[key(each) for each in skewed]]))
        costs.append(core_us(tier, [[key(STORED + each) for each in lookups]]))
        started = time.thread_time()
        for each in lookups:
            tier.put(key(each), vectors[each % 64].copy())
        costs.append(1e6 * (time.thread_time() - started) / LOOKUPS)
        print(f"{name} | " + " | ".join(f"{cost:.2f}" for cost in costs))
    stream = zipf(KEYS, STREAM)
    print("hits of a Zipf stream, room for | " + " | ".join(f"{share:.0%}" for share in SHARES))
    for name in tiers(0):
        ratios = [hit_ratio(tiers(int(share * KEYS * 4 * WIDTH))[name](), stream) for share in SHARES]
        print(f"{name} | " + " | ".join(f"{ratio:.3f}" for ratio in ratios))


if __name__ == "__main__":
    main()
