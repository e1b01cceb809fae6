"""Training: 200 steps as a GPU is meant to take them against fp32 on the CPU; loader and step apart."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.findings import Findings, Options
from benchmarks.gpu_check.processes import rate_of_processes
from benchmarks.gpu_check.training_data import decode_for_training, write_photographs, write_stripes
from model.runtime.processor import usable_cores
from training.config import TrainConfig
from training.loop.loader import StepInputs
from training.loop.setup import setup
from training.loop.trainer import Trainer, train_step

STEPS, BATCH = 200, 64
QUICK_STEPS, QUICK_BATCH = 3, 8
FIRST = 10  # steps in which rounding has not yet led anywhere else
FIRST_DIFFERENCE = 0.03  # of the loss of each, as a share of the first loss: later ones are near 0
SMOOTHED = 50  # last steps, whose mean loss is compared
SMOOTHED_DIFFERENCE = 0.03  # a share of the first loss, too
LOADER_SHARE = 0.9  # of what decoding alone does in a process on each core
NOTHING_AT_RANDOM = {
    "crop_aspect": 1, "zoom_out": 1, "horizontal_flip": 0, "brightness": 0, "contrast": 0, "saturation": 0,
    "grayscale": 0, "blur": 0, "erasing": 0,
}  # fmt: skip


def run(options: Options, findings: Findings) -> None:
    """Compare losses, then time a loader and steps of the size that a GPU is bought for."""
    stripes = write_stripes(options.folder / "stripes")
    steps = QUICK_STEPS if options.quick else STEPS
    meant = (
        {"device": "cuda", "precision": "bf16", "compile": True}
        if options.on_gpu
        else {"device": "cpu", "precision": "fp32"}
    )
    exact = _losses(_small(options, stripes, steps, device="cpu", precision="fp32"), options.folder / "exact")
    got = _losses(_small(options, stripes, steps, gradient_checkpointing=True, **meant), options.folder / "meant")
    judge_losses(findings, ", ".join(f"{name} {value}" for name, value in meant.items()), got, exact)
    if not options.on_gpu:
        findings.skip("bf16 and compile", "needs CUDA")
    _speeds(options, findings)


def judge_losses(findings: Findings, how: str, got: Sequence[float], exact: Sequence[float]) -> None:
    """The promises about the losses of the same steps."""
    first = max((abs(a - b) / exact[0] for a, b in zip(got[:FIRST], exact[:FIRST], strict=True)), default=float("nan"))
    findings.promise(
        f"{how}, checkpointing: the first {FIRST} losses are fp32's on the CPU, within {FIRST_DIFFERENCE:.0%}",
        first <= FIRST_DIFFERENCE, f"{first:.2%}",
    )  # fmt: skip
    last, expected = statistics.fmean(got[-SMOOTHED:]), statistics.fmean(exact[-SMOOTHED:])
    findings.promise(
        f"the mean loss of the last {min(SMOOTHED, len(exact))} steps, too",
        abs(last - expected) <= SMOOTHED_DIFFERENCE * exact[0], f"{last:.4f}, CPU {expected:.4f}, first {exact[0]:.4f}",
    )  # fmt: skip
    findings.promise("it learns: the loss falls", last < got[0], f"{got[0]:.4f} to {last:.4f}")


def _small(options: Options, shard: Path, steps: int, **changes: Any) -> TrainConfig:
    """A run whose inputs are the same on every device."""
    settings: dict[str, Any] = {
        "name": "gpu-check", "start": str(options.folder / "models" / "vit" / "fp32"),
        "data": {"train": [{"shards": [str(shard)]}], "holdout": 0, "store_pixels": 96, "max_long_text": 0},
        "steps": steps, "batch_size": QUICK_BATCH if options.quick else BATCH, "stages": [{"start": 0, "pixels": 96}],
        "min_crop": 1, "augmentation": NOTHING_AT_RANDOM, "optimizer": {"learning_rate": 3e-4, "warmup_steps": 2},
    }  # fmt: skip
    return TrainConfig.model_validate(settings | changes)


def _losses(config: TrainConfig, run: Path) -> list[float]:
    trainer = setup(config, run, Path())
    inputs = trainer.loader.iterate(0)
    try:
        return [train_step(trainer.unit, next(inputs))["loss"] for _ in range(config.steps)]
    finally:
        trainer.loader.close()


def _speeds(options: Options, findings: Findings) -> None:
    """Samples a second of the loader alone, and of the step alone, and what that says of both together."""
    size, batch = (96, QUICK_BATCH) if options.quick else (224, 1024)
    shard = write_photographs(options.folder / "photographs", 16 if options.quick else 512)
    trainer = setup(_large(options, shard, size, batch), options.folder / "speed", Path())
    steps = trainer.loader.iterate(0)
    loading = _samples_s(lambda _: next(steps), batch, 1 if options.quick else 20)
    inputs = next(steps)
    trainer.loader.close()
    cores = usable_cores()
    decoding = rate_of_processes(decode_for_training, (shard, size), cores, options.seconds(2.0))
    findings.figure("decoding alone, a process on each core, pictures/s", f"{decoding:.0f}")
    judge_loader(options, findings, loading, decoding)
    stepping = _step_samples_s(trainer, inputs, batch, 1 if options.quick else 10)
    findings.figure(f"the step alone, batches of {batch}, samples/s", f"{stepping:.0f}")
    findings.figure("the loader alone, samples/s", f"{loading:.0f}")
    findings.figure("steps wait for the loader", f"{max(0.0, 1 - loading / stepping):.0%} of the time")
    if trainer.processes.device.type == "cuda":
        findings.figure("memory of the step at most", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def judge_loader(options: Options, findings: Findings, loading: float, decoding: float) -> None:
    """The promise about the loader, in pictures a second."""
    promise = f"the loader gives ≥ {LOADER_SHARE} of what decoding alone does with a process on each core"
    findings.speed(options, promise, loading >= LOADER_SHARE * decoding, f"{loading:.0f} of {decoding:.0f} pictures/s")


def _large(options: Options, shard: Path, size: int, batch: int) -> TrainConfig:
    gpu = {"device": "cuda", "precision": "bf16", "compile": True, "gradient_checkpointing": True}
    settings: dict[str, Any] = {
        "name": "gpu-check", "model": "sightword-small" if options.quick else "ViT-B-32",
        "data": {
            "train": [{"shards": [str(shard)]}], "holdout": 0, "store_pixels": size, "max_long_text": 0,
            "pictures": "disk",
        },
        "steps": 100, "batch_size": batch, "stages": [{"start": 0, "pixels": size}],
        "optimizer": {"warmup_steps": 2}, **(gpu if options.on_gpu else {"device": "cpu", "precision": "fp32"}),
    }  # fmt: skip
    return TrainConfig.model_validate(settings)


def _step_samples_s(trainer: Trainer, inputs: StepInputs, batch: int, steps: int) -> float:
    for _ in range(3 if steps > 1 else 1):  # compiles, and times kernels
        train_step(trainer.unit, inputs)
    return _samples_s(lambda step: train_step(trainer.unit, inputs), batch, steps)


def _samples_s(work: Any, batch: int, times: int) -> float:
    work(0)
    _wait()
    started = time.perf_counter()
    for number in range(times):
        work(number + 1)
    _wait()
    return times * batch / (time.perf_counter() - started)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
