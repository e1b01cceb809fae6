"""The ladder: items a second of the bare model by batch size and way of running it, and what warm-up chooses."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.gpu_check.environment import TENSORRT, loads
from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.models import to_serve
from benchmarks.gpu_check.sessions import Run, first_ms, inputs, open_session, plain, resident
from benchmarks.speed.bare import rate
from model.bundle import Bundle, bundled
from model.runtime.engine import Engine
from model.runtime.providers import PROVIDERS
from service.inference.warmup import warm_up

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
QUICK_SIZES = (1, 4)
MEASURED_S = 0.2
NEAR = 0.9  # of the best found
COLUMNS = ("model", "tower", "how", "batch", "first run, ms", "items/s")
TOWERS = ("image", "text")


def run(options: Options, findings: Findings) -> None:
    """Climb with the exact model and the half-precision one; the rest with the one that is meant for a GPU."""
    precisions = ("fp32",) if options.quick else ("fp32", "fp16")
    for bundle in [Bundle.load(to_serve(options, precision)) for precision in precisions]:
        best = {tower: _climb(options, findings, bundle, tower) for tower in TOWERS}
        _compare_choice(options, findings, bundle, best)
    if options.on_gpu:
        _tf32(options, findings)
        for tower in TOWERS:
            _cuda_graph(options, findings, bundle, tower)
        _tensorrt(options, findings, bundle)
    else:
        findings.skip("TF32, CUDA graphs and TensorRT", "needs CUDA")
    _padded_sizes(options, findings, Bundle.load(bundled()))


def _climb(options: Options, findings: Findings, bundle: Bundle, tower: str) -> float:
    """Rows of the table; the most items a second of a run as the engine does it."""
    engine = Engine(bundle, options.device)
    embed = engine.embed_images if tower == "image" else engine.embed_texts
    session = open_session(bundle, tower, options.device)
    best = 0.0
    for size in QUICK_SIZES if options.quick else SIZES:
        value = inputs(bundle, tower, size)
        ways: dict[str, Run] = {
            "session.run": plain(session, tower, value),
            "as the engine does": partial(embed, value),
            "resident on the device": resident(session, tower, value, options.device),
        }
        for how, one in ways.items():
            first = first_ms(one)
            items_s = rate(one, size, 1, options.seconds(MEASURED_S)).items_s
            _row(findings, bundle, tower, how, size, first, items_s)
            if how == "as the engine does":
                best = max(best, items_s, rate(one, size, 2, options.seconds(MEASURED_S)).items_s)
    return best


def _compare_choice(options: Options, findings: Findings, bundle: Bundle, best: Mapping[str, float]) -> None:
    """The promise that warm-up finds a batch size as good as any."""
    engine = Engine(bundle, options.device)
    for tower, profile in warm_up(engine, bundle, None).items():
        value = inputs(bundle, tower, profile.max_batch)
        embed = engine.embed_images if tower == "image" else engine.embed_texts
        seconds = options.seconds(3 * MEASURED_S)
        chosen = rate(partial(embed, value), len(value), profile.workers, seconds)
        how = f"batches of {profile.max_batch}, {profile.workers} at once"
        judge_choice(options, findings, f"{_name(bundle)}, {tower} tower, {how}", chosen.items_s, best[tower])
        expected = 1 / (profile.seconds_per_item * chosen.items_s)
        findings.figure(
            f"{_name(bundle)}, {tower}: warm-up's estimate of its speed over the measured one", f"{expected:.2f}"
        )


def judge_choice(options: Options, findings: Findings, what: str, chosen: float, best: float) -> None:
    """The promise about what warm-up chose, in items a second."""
    promise = f"{what}: warm-up's choice has ≥ {NEAR} of the best speed found"
    findings.speed(options, promise, chosen >= NEAR * best, f"{chosen:.0f} of {best:.0f} items/s, {chosen / best:.2f}")


def _tf32(options: Options, findings: Findings) -> None:
    """What exactness costs: fp32 with TF32 and without."""
    bundle = Bundle.load(to_serve(options, "fp32"))
    for tower, allowed in itertools.product(TOWERS, ("0", "1")):
        session = open_session(bundle, tower, options.device, use_tf32=allowed)
        one = resident(session, tower, inputs(bundle, tower, 128), options.device)
        first = first_ms(one)
        items_s = rate(one, 128, 1, options.seconds(MEASURED_S)).items_s
        _row(findings, bundle, tower, f"use_tf32={allowed}", 128, first, items_s)


def _cuda_graph(options: Options, findings: Findings, bundle: Bundle, tower: str) -> None:
    """Where a tower can be captured, its vectors are the same, and this is what it gains at small batches."""
    try:
        session = open_session(bundle, tower, options.device, enable_cuda_graph="1")
        for number, size in enumerate((1, 8, 64)):
            value = inputs(bundle, tower, size)
            chosen = ort.RunOptions()
            chosen.add_run_config_entry("gpu_graph_id", str(number + 1))  # one for each shape
            one = resident(session, tower, value, options.device, chosen)
            first = first_ms(one)
            one()  # the second run captures, later ones replay
            items_s = rate(one, size, 1, options.seconds(MEASURED_S)).items_s
            _row(findings, bundle, tower, "CUDA graph", size, first, items_s)
            expected = resident(open_session(bundle, tower, options.device), tower, value, options.device)()
            judge_same(
                findings, f"{_name(bundle)}, {tower} tower, batch {size}: a CUDA graph gives the same", one(), expected
            )
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        findings.skip(f"CUDA graph of the {tower} tower of {_name(bundle)}", f"{type(error).__name__}: {error}")


def judge_same(findings: Findings, what: str, got: Any, expected: Any) -> None:
    """The promise that two ways of running a model give the same vectors."""
    difference = float(np.abs(np.asarray(got) - np.asarray(expected)).max())
    findings.promise(f"{what} vectors, within 1e-3", difference <= 1e-3, f"{difference:.1e}")


def _tensorrt(options: Options, findings: Findings, bundle: Bundle) -> None:
    missing = [library for library in TENSORRT if not loads(library)]
    if missing or PROVIDERS["tensorrt"] not in ort.get_available_providers():
        findings.skip("TensorRT", f"not here: {', '.join(missing) or PROVIDERS['tensorrt']}")
        return
    engine = Engine(bundle, "tensorrt")
    for tower, embed in (("image", engine.embed_images), ("text", engine.embed_texts)):
        for size in (1, 64):
            value = inputs(bundle, tower, size)
            first = first_ms(partial(embed, value))
            items_s = rate(partial(embed, value), size, 1, options.seconds(MEASURED_S)).items_s
            _row(findings, bundle, tower, "TensorRT", size, first, items_s)


def _padded_sizes(options: Options, findings: Findings, bundle: Bundle) -> None:
    """Batches of all sizes in turn, as they come and padded to powers of two, for the tower with convolutions."""
    largest = 8 if options.quick else 64
    drawn = np.random.default_rng(0).integers(1, largest + 1, 8 if options.quick else 40)
    ways: dict[str, Iterable[int]] = {
        "sizes as they come": drawn,
        "padded to powers of two": 2 ** np.ceil(np.log2(drawn)),
    }
    for how, sizes in ways.items():
        session = open_session(bundle, "image", options.device)
        batches = {int(size): inputs(bundle, "image", int(size)) for size in sizes}
        runs = [plain(session, "image", batches[int(size)]) for size in sizes]

        def all_of_them(runs: list[Run] = runs) -> None:
            for each in runs:
                each()

        first = first_ms(all_of_them)
        items_s = rate(all_of_them, int(drawn.sum()), 1, options.seconds(1.0)).items_s
        _row(findings, bundle, "image", how, f"1 to {largest}", first, items_s)


def _row(findings: Findings, bundle: Bundle, tower: str, how: str, batch: object, first: float, items_s: float) -> None:
    findings.row("Speed", COLUMNS, _name(bundle), tower, how, batch, f"{first:.1f}", f"{items_s:.0f}")


def _name(bundle: Bundle) -> str:
    return f"{bundle.manifest.config.name} {bundle.precision}"
