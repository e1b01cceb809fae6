"""A minute of load, in the middle of which another process takes the GPU's memory, and a reload that does not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from benchmarks.client import Answer
from benchmarks.gpu_check.eat_memory import eaten
from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.load import Served, drive, mixed_requests, vectors
from benchmarks.gpu_check.models import to_serve
from benchmarks.service_process import Running
from benchmarks.soak.bench import queue_drained, statuses
from benchmarks.speed.load import serving

LOAD_S = 60.0
LEFT_BYTES = 32 * 2**20  # too little for a batch that needs more than warm-up did, and for another model
REFUSALS = frozenset(
    (200, 429, 500, 503)
)  # what a request may be answered while memory is out; nothing is not among them
RECOVERED_SHARE = 1 / 4  # of the time, at the end, in which every answer must be 200 again


def run(options: Options, findings: Findings) -> None:
    """Drive the real service and look at every answer."""
    asyncio.run(_run(options, findings))


async def _run(options: Options, findings: Findings) -> None:
    served = Served(to_serve(options), options.folder / "soaked")
    seconds = 2.0 if options.quick else LOAD_S
    with serving(options.folder, served.link, options.device) as service:
        before = await vectors(service)
        load = asyncio.create_task(drive(service, mixed_requests(), seconds))
        if options.on_gpu:
            await asyncio.sleep(seconds / 6)
            with ExitStack() as stack:
                held = await asyncio.to_thread(stack.enter_context, eaten(LEFT_BYTES))  # the load goes on
                findings.figure("held by another process", f"{held / 2**30:.1f} GiB")
                findings.figure("a reload meanwhile", await served.reload(service))
                await asyncio.sleep(seconds / 3)
        else:
            findings.skip("memory that runs out", "needs CUDA")
        answers = await load
        judge_answers(findings, answers, seconds)
        await _judge_service(findings, service, before, options)


def judge_answers(findings: Findings, answers: Sequence[Answer], seconds: float) -> None:
    """The promises about what requests were answered in so many seconds."""
    found = statuses(answers)
    findings.promise("nothing is lost: every request has an answer", all(a.status > 0 for a in answers), found)
    findings.promise(
        f"no answers but {', '.join(map(str, sorted(REFUSALS)))}", {a.status for a in answers} <= REFUSALS, found
    )
    last = max(answer.sent for answer in answers)
    ending = [answer for answer in answers if answer.sent >= last - seconds * RECOVERED_SHARE]
    recovered = {answer.status for answer in ending} == {200}
    findings.promise("it recovers: at the end every request is answered 200", recovered, statuses(ending))


async def _judge_service(findings: Findings, service: Running, before: np.ndarray, options: Options) -> None:
    findings.promise("the process lives", service.process.poll() is None, service.process.poll() or "it does")
    difference = float(np.abs(await vectors(service) - before).max())
    findings.promise("its vectors are what they were, within 5e-3", difference <= 5e-3, f"{difference:.1e}")
    findings.promise("its queue is empty", await queue_drained(service), "queue gauges")
    if options.on_gpu:
        halvings = service.metric("sightword_out_of_memory_total")
        findings.figure("times that a batch did not fit", f"{halvings:.0f}")
        ran_out = halvings > 0 or service.metric("sightword_reloads_total", outcome="failed") > 0
        # A soak in which memory never ran out has shown nothing.
        findings.promise("memory did run out", ran_out, f"{halvings:.0f} batches; reloads in the metrics")
