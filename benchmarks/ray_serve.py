"""What Ray Serve costs: requests in a second, CPU time and latency, beside the service itself on the same machine.

    python -m benchmarks.ray_serve

Both are up side by side and are asked in turns, so that whatever else the machine does disturbs both alike.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

# Before ray is imported.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

import ray
from ray import serve

from benchmarks import inputs
from benchmarks.client import Client, closed_loop, for_seconds, percentile_s
from benchmarks.service_process import free_port, running
from model.bundle import bundled
from service.ray_serve import deployment

ROUNDS, ROUND_S, CLIENTS = 3, 4.0, 16
CORES = 2  # of the service alone, and of all replicas together


class Measured(NamedTuple):
    """Of one round: requests in a second, CPU seconds of a request, and seconds until one alone was answered."""

    rate: float
    cpu_s: float
    latency_s: float


def main() -> None:
    """Print a table."""
    files = inputs.jpeg_files(64)
    print("| requests | replicas | of the rate of one process | CPU added | latency added |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), bundled(), cache_bytes="0") as alone:
        # Room for a replica more: Ray Serve starts the next one before it ends the last.
        environment = {"env_vars": {"SIGHTWORD_CACHE_BYTES": "0"}}
        ray.init(num_cpus=2 * CORES, include_dashboard=False, log_to_driver=False, runtime_env=environment)
        url = f"http://127.0.0.1:{free_port()}"
        serve.start(http_options={"host": "127.0.0.1", "port": int(url.rpartition(":")[2])})
        for replicas in (1, 2):
            options = {"num_cpus": CORES // replicas}
            serve.run(
                deployment.options(num_replicas=replicas, ray_actor_options=options, max_ongoing_requests=32).bind()
            )
            if replicas == 1:
                _saturate(url, inputs.image_requests(files))
            for name, requests in (("texts", inputs.text_requests()), ("pictures", inputs.image_requests(files))):
                _compare(name, replicas, alone.url, alone.process.pid, url, requests)
        serve.shutdown()
        ray.shutdown()


def _compare(name: str, replicas: int, alone: str, pid: int, through_ray: str, requests: Iterator[bytes]) -> None:
    rounds = []
    for number in range(ROUNDS + 1):
        theirs = [each for each in psutil.Process().children(recursive=True) if each.pid != pid]
        pair = _measure(alone, [psutil.Process(pid)], requests), _measure(through_ray, theirs, requests)
        if number:  # the first is for warming up
            rounds.append(pair)
    rate = median(ray.rate / one.rate for one, ray in rounds)
    cpu_s = median(ray.cpu_s - one.cpu_s for one, ray in rounds)
    latency_s = median(ray.latency_s - one.latency_s for one, ray in rounds)
    base = median(one.cpu_s for one, _ in rounds)
    print(
        f"| {name} | {replicas} | {rate:.2f} | {cpu_s * 1e3:.1f} ms to {base * 1e3:.1f} ms | {latency_s * 1e3:.1f} ms |"
    )


def _saturate(url: str, requests: Iterator[bytes]) -> None:
    """Print how many requests at once keep one replica busy."""
    rates = {clients: _measure(url, [], requests, clients).rate for clients in (1, 1, 2, 4, 8, 16, 32)}
    most = max(rates.values())
    print("one replica, pictures, by requests at once: " + ", ".join(f"{n}: {r / most:.2f}" for n, r in rates.items()))


def _measure(url: str, processes: list[psutil.Process], requests: Iterator[bytes], clients: int = CLIENTS) -> Measured:
    async def all_of_it() -> Measured:
        client = Client(url)
        single = await closed_loop(client, requests, 1, for_seconds(ROUND_S / 4))
        before = _cpu_s(processes)
        answers = await closed_loop(client, requests, clients, for_seconds(ROUND_S))
        used = _cpu_s(processes) - before
        client.close()
        wrong = {answer.status for answer in (*single, *answers)} - {200}
        if wrong:
            raise SystemExit(f"answers of {url} with status {sorted(wrong)}")
        return Measured(len(answers) / ROUND_S, used / len(answers), percentile_s(single, 0.5))

    return asyncio.run(all_of_it())


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [each.cpu_times() for each in processes if each.is_running()]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    main()
