"""Memory of the device: after the start, under load, and after three reloads, which must leave nothing behind."""

from __future__ import annotations

import asyncio

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.load import Served, drive, held_bytes, mixed_requests
from benchmarks.gpu_check.models import to_serve
from benchmarks.speed.load import serving

LOAD_S = 6.0
RELOADS = 3
GROWTH_BYTES, GROWTH_SHARE = 128 * 2**20, 0.05  # that may stay after reloads: the larger of the two


def run(options: Options, findings: Findings) -> None:
    """Start a service, load it, reload it under load three times, and compare."""
    asyncio.run(_run(options, findings))


async def _run(options: Options, findings: Findings) -> None:
    served = Served(to_serve(options), options.folder / "reloaded")
    seconds = 0.5 if options.quick else LOAD_S
    requests = mixed_requests()
    before = held_bytes(options, None)
    with serving(options.folder, served.link, options.device) as service:
        findings.figure("after the start", _mib(held_bytes(options, service) - before))
        await drive(service, requests, seconds)
        loaded = held_bytes(options, service) - before
        findings.figure("after load", _mib(loaded))
        outcomes, peak, statuses = [], loaded, set[int]()
        for _ in range(RELOADS):
            load = asyncio.create_task(drive(service, requests, seconds))
            reloading = asyncio.create_task(served.reload(service))
            while not load.done():
                peak = max(peak, held_bytes(options, service) - before)
                await asyncio.sleep(0.05)
            outcomes.append(await reloading)
            statuses |= {answer.status for answer in await load}
        await drive(service, requests, seconds)
        after = held_bytes(options, service) - before
    findings.figure("at most, during the reloads", _mib(peak))
    findings.promise(f"{RELOADS} reloads under load are done", outcomes == ["done"] * RELOADS, ", ".join(outcomes))
    findings.promise("not a request fails meanwhile", statuses == {200}, sorted(statuses))
    judge_growth(options, findings, f"after {RELOADS} reloads", loaded, after)
    if options.on_gpu:
        left = held_bytes(options, None) - before
        findings.promise("when it has ended, the GPU has its memory back", left <= GROWTH_BYTES, _mib(left))


def judge_growth(options: Options, findings: Findings, when: str, before: int, after: int) -> None:
    """The promise that memory of the GPU has not grown, in bytes; a process's own, `make soak` judges over minutes."""
    allowed = max(GROWTH_BYTES, int(GROWTH_SHARE * before))
    what = f"{when}, no more than {_mib(allowed)} are held beyond what was held under load before"
    findings.promise(what, after - before <= allowed if options.on_gpu else None, f"{_mib(before)}, then {_mib(after)}")


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
