"""Decoding: pictures a second of one core and of all of them, as the service does it: the limit of a fast GPU."""

from __future__ import annotations

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.processes import rate_of_processes
from benchmarks.speed.bare import rate
from benchmarks.speed.bench import decoder
from benchmarks.speed.photographs import CAMERA, SMALL, photographs
from model.bundle import Bundle, bundled
from model.runtime.processor import usable_cores

THREADS_SHARE = 0.85  # of what as many processes do: the rest waits for Python's lock
MEASURED_S = 2.0
COLUMNS = ("pictures", "how", "pictures/s", "of each core")


def run(options: Options, findings: Findings) -> None:
    """Decode and preprocess for the bundled model: on one core, by threads on all of them, and by processes."""
    counts = {SMALL: 4} if options.quick else {SMALL: 64, CAMERA: 8}
    bundle, cores, seconds = Bundle.load(bundled()), usable_cores(), options.seconds(MEASURED_S)
    for size, files in photographs(counts).items():
        decode = decoder(bundle, files)
        ways = {
            "one thread": rate(decode, 1, 1, seconds).items_s,
            f"{cores} threads": rate(decode, 1, cores, seconds).items_s,
            f"{cores} processes": rate_of_processes(decoder, (bundle, files), cores, seconds),
        }
        name = f"{size[0]}x{size[1]} to {bundle.image_size}"
        for how, items_s in ways.items():
            each = items_s if how == "one thread" else items_s / cores
            findings.row("Decoding", COLUMNS, name, how, f"{items_s:.0f}", f"{each:.0f}")
        _, threads, processes = ways.values()
        judge_threads(options, findings, name, threads, processes)


def judge_threads(options: Options, findings: Findings, what: str, threads: float, processes: float) -> None:
    """The promise about pictures a second on all cores."""
    promise = f"{what}: threads decode ≥ {THREADS_SHARE} of what as many processes do"
    findings.speed(
        options, promise, threads >= THREADS_SHARE * processes, f"{threads:.0f} and {processes:.0f} pictures/s"
    )
