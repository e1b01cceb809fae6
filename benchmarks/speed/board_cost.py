"""What the one thing that workers share costs a request, by their number: python -m benchmarks.speed.board_cost

Beside the kernel's and the device's, that is the board: admission sums its rows several times a request, and each row
is a cache line that another worker has just written. Another process writes all other rows here, again and again, so
that two cores show what many workers cost each other; CPU time of this process is what is read. What grows by one
worker, over what a request costs one of them, is alpha of the universal scalability law.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time

import numpy as np

from benchmarks.speed.scaling import Law
from service import shared_memory
from service.admission import Admission
from service.board import Board, Field
from service.metrics import Metrics

WORKERS = (1, 2, 4, 8, 16, 32, 64)
REQUESTS, ROUNDS = 2_000, 9
REQUEST_US = (200, 600)  # of a worker's CPU: a text before a stub engine, a text of the small model


def main() -> None:
    """Print microseconds a request, and what follows for 16 and 64 workers."""
    costs = {workers: read(workers) for workers in WORKERS}
    print("workers, us a request: least, median, most of the rounds")
    for workers, several in costs.items():
        print(f"{workers:3d}  {min(several):.2f}  {statistics.median(several):.2f}  {max(several):.2f}")
    for name, choose in (("least", min), ("median", statistics.median), ("most", max)):
        slope = np.polyfit(WORKERS, [choose(costs[workers]) for workers in WORKERS], 1)[0]
        for request_us in REQUEST_US:
            alpha = max(0.0, slope) / request_us
            caps = ", ".join(f"C({number}) = {Law(alpha, 0.0).capacity(number):.1f}" for number in (16, 64))
            print(f"{name}: {slope:.3f} us for each worker; of {request_us} us a request alpha = {alpha:.5f}, {caps}")


def read(workers: int) -> list[float]:
    """Microseconds of CPU of a request's admission, of each round."""
    descriptor = shared_memory.create("sightword-board", Board.size(workers))
    board = Board(shared_memory.attach(descriptor), workers)
    writing = multiprocessing.get_context("fork").Process(target=write, args=[board], daemon=True)
    if workers > 1:
        writing.start()
    metrics = Metrics()
    admission = Admission(10**6, 10**12, metrics.queue_items, metrics.queue_bytes, row=board.row(0))
    try:
        return [1e6 * _round(admission) / REQUESTS for _ in range(ROUNDS)]
    finally:
        if workers > 1:
            writing.kill()
            writing.join()


def _round(admission: Admission) -> float:
    began = time.thread_time()
    for _ in range(REQUESTS):
        if admission.free <= 0:  # the gate, at the head
            sys.exit("the board is full")
        admission.check(items=1, size=100)
        with admission.reserve_bytes() as held:
            held.add(100)
            with admission.reserve_request(), admission.reserve_items(1) as items:
                items.expect(0.001)
    return time.thread_time() - began


def write(board: Board) -> None:
    """As the other workers do, for ever; what they hold stays next to nothing."""
    rows = [board.row(number) for number in range(1, board.workers)]
    while True:
        for row in rows:
            row.set(Field.ITEMS, 1 - row.get(Field.ITEMS))


if __name__ == "__main__":
    main()
