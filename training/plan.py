"""What a run would need, before it begins, as `train --dry-run` prints it: parameters, work, memory and time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from model.network import Network
from model.network.pretrained_text import frozen_names
from model.progress import format_duration
from training.config import Stage, TrainConfig
from training.cost import Cost, CostProfiler
from training.data.dataset import refuse_tests_in_training
from training.data.index import SampleIndex, index_cache, open_index
from training.data.split import MAX_HOLDOUT
from training.initial_model import build_initial_model
from training.loop.batch_partition import check_partition
from training.loop.frozen_outputs import CACHE_BYTES
from training.loop.loader import read_ahead
from training.loop.precision import DTYPE_NAMES, allow_tf32, channels_last, choose_precision
from training.loop.processes import device_of
from training.loop.timing import most_at_once, time_steps
from training.loop.towers import TowerFreezing
from training.run_categories import choose_categories

WEIGHT_COPIES = 2  # of all weights: themselves, the average
LEARNED_COPIES = 3  # of those that learn: gradients, AdamW's two moments
# A step is about three forward passes (Kaplan et al. 2020, section 2.1), and a fourth where one is repeated.
STEP_FORWARDS = 3


@dataclass(frozen=True)
class Estimate:
    """What a run would need, in words, and the seconds that it takes: between two bounds."""

    text: str
    fastest: float
    slowest: float


def plan(config: TrainConfig, base: Path) -> str:
    """What `estimate` finds, in words."""
    return estimate(config, base).text


def estimate(config: TrainConfig, base: Path) -> Estimate:
    """Parameters, work, memory and time of a run, by as many processes as torchrun started.

    Raises what the run would at its start.
    """
    processes, device = int(os.environ.get("WORLD_SIZE", "1")), device_of(config.device)
    check_partition(config.batch_size, processes, config.accumulate)
    precision = choose_precision(config.precision, device)
    allow_tf32(precision)
    categories = choose_categories(config, base)
    initial = build_initial_model(config, categories.vocabulary if categories else None)
    network = channels_last(initial.network).to(device)
    TowerFreezing(network, config.lock, config.steps).apply(config.steps - 1)
    refuse_tests_in_training(config.data, base)
    indexes = categories.of_samples.opened.indexes if categories else _open_indexes(config, base)
    samples = sum(map(len, indexes))
    frozen = _frozen_numbers(network)
    size = config.batch_size
    lines = [
        f"{config.name}: {config.steps:,} steps of {size:,} = {config.steps * size:,} samples",
        f"  from {_origin(config)}; {samples:,} pictures, {config.data.holdout:.0%} of them held out",
        f"  parameters: {_parameters(network):,}, {_parameters(network.visual):,} of them in the picture tower"
        + (f"; and {frozen:,} of a language model that stays as it is" if frozen else ""),
        *_division(config, processes),
        *([f"  categories: {len(categories.vocabulary):,}, all of them texts of every batch"] if categories else []),
    ]
    costs = {
        stage: CostProfiler(network, stage.pixels, precision, config.patch_dropout).profile(
            config.gradient_checkpointing
        )
        for stage, _ in _stages(config)
    }
    activations = max(cost.activation_bytes for cost in costs.values()) * size // (processes * config.accumulate)
    fastest = slowest = 0.0
    held_out = sum(min(MAX_HOLDOUT, round(config.data.holdout * len(index))) for index in indexes)
    images, done = size // processes, 0
    for stage, steps in _stages(config):
        done, cost = done + steps, costs[stage]
        most = most_at_once(cost.seconds, cost.activation_bytes // config.accumulate, device)
        timing = time_steps(config, initial, network, precision, done - 1, images=images, most=most)
        fastest, slowest = fastest + steps * timing.fastest, slowest + steps * timing.slowest
        each = _format_range(timing.fastest, timing.slowest, _format_seconds)
        work = _work(config, cost)
        lines.append(f"  {steps:,} steps at {stage.pixels} pixels: {work:.2f} TFLOP and {each} each")
    # A forward pass of the hold-out at every evaluation, of crops as large as the last.
    evaluations = len(range(config.evaluate_every, config.steps, config.evaluate_every)) + 1
    scored = evaluations * held_out / images / STEP_FORWARDS
    fastest, slowest = fastest + scored * timing.fastest, slowest + scored * timing.slowest
    duration = _format_range(fastest, slowest, format_duration)
    batches = (1 + read_ahead(config, processes)) * size // processes
    decoded = 4 * config.data.store_pixels**2
    host = {"pictures": samples * decoded, "batches": batches * decoded}
    if config.data.pictures == "disk":
        host = {"pictures": batches * decoded}
    host["pictures"] += sum(index.nbytes for index in indexes)
    if frozen:
        host["outputs of the language model"] = CACHE_BYTES
    held_once = config.data.pictures == "memory" and processes > 1
    text = "\n".join(
        [
            *lines,
            *_memory(_weights(network, config, processes), activations, host, device),
            *(["  of that, pictures are held once for all processes on a machine"] if held_once else []),
            f"  time: {duration} in {DTYPE_NAMES[precision]}, on this machine as busy as it is now",
            f"    (by {timing.repeats} steps of {timing.images:,} pictures after others that warmed up; with the "
            "evaluations of the hold-out, without the tests and the export at the end)",
        ]
    )
    return Estimate(text, fastest, slowest)


def _origin(config: TrainConfig) -> str:
    """What the run begins with, for people."""
    text = config.text and f" with the text tower of {config.text.preset or config.text.frozen}"
    return f"{config.start or config.model}{text or ''}"


def _open_indexes(config: TrainConfig, base: Path) -> list[SampleIndex]:
    fields = config.data.captions.field_names
    return [open_index(source, base, index_cache(config.data), fields) for source in config.data.train]


def _division(config: TrainConfig, processes: int) -> list[str]:
    """How a batch is divided, if it is."""
    each = config.batch_size // (processes * config.accumulate)
    among = [f"{processes} processes by {config.parallel}"] if processes > 1 else []
    chunks = [f"{config.accumulate} chunks"] if config.accumulate > 1 else []
    return (
        [f"  a batch is divided into {', each in '.join(among + chunks)}: {each:,} pictures"] if among + chunks else []
    )


def _work(config: TrainConfig, cost: Cost) -> float:
    """Teraflops of a step."""
    repeated = (config.accumulate > 1) + config.gradient_checkpointing
    return (STEP_FORWARDS + repeated) * cost.operations * config.batch_size / 1e12


def _weights(network: Network, config: TrainConfig, processes: int) -> int:
    """Bytes of the weights and of what has their size, in one process."""
    learning = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    copies = WEIGHT_COPIES * _parameters(network) + LEARNED_COPIES * learning
    return 4 * (copies // (processes if config.parallel == "fsdp" else 1) + _frozen_numbers(network))


def _memory(weights: int, activations: int, host: dict[str, int], device: torch.device) -> list[str]:
    """Lines for the GPU and the host, or for the host alone."""
    of_training = {"weights, gradients, moments, average": weights, "activations": activations}
    if device.type == "cuda":
        return [
            _format_sizes(f"GPU memory of each process, with {_gpu_gib(device):.0f} GiB there", of_training),
            _format_sizes("memory of each process", host) + ", and about 2 for the program",
        ]
    return [_format_sizes("memory", {**of_training, **host}) + ", and about 0.5 for the program"]


def _format_sizes(name: str, parts: dict[str, int]) -> str:
    sizes = ", ".join(f"{part} {size / 2**30:.2f}" for part, size in parts.items())
    return f"  {name}: {sum(parts.values()) / 2**30:.1f} GiB ({sizes})"


def _gpu_gib(device: torch.device) -> float:
    return torch.cuda.get_device_properties(device).total_memory / 2**30


def _stages(config: TrainConfig) -> list[tuple[Stage, int]]:
    """Each stage and how many steps it has."""
    ends = [stage.start for stage in config.stages[1:]] + [1.0]
    return [(stage, round((end - stage.start) * config.steps)) for stage, end in zip(config.stages, ends, strict=True)]


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _frozen_numbers(network: Network) -> int:
    """Weights of a language model that is kept as it is: once, as its average is itself."""
    state = network.state_dict()
    return sum(state[name].numel() for name in frozen_names(network))


def _format_range(low: float, high: float, format_value: Callable[[float], str]) -> str:
    """`2 min to 3 min`, or one of them where they read the same."""
    return (
        format_value(low) if format_value(low) == format_value(high) else f"{format_value(low)} to {format_value(high)}"
    )


def _format_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"
