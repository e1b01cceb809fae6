"""Builds all that a run needs, or says before the first step why it cannot be run."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from model.config import ModelConfig, ResNetConfig
from model.network import Network
from training.categories.vocabulary import describe_vocabulary
from training.config import Data, TrainConfig
from training.config.captions import STORED, Captions
from training.data.dataset import TrainingSet
from training.evaluation.category_holdout import build_holdout
from training.evaluation.intervals import too_few
from training.initial_model import build_initial_model
from training.loop.batch_partition import check_partition
from training.loop.checkpoint import TrainingState, read_state, restore_checkpoint
from training.loop.loader import Loader
from training.loop.optimizer import MovingAverage, average_decay, build_optimizer
from training.loop.patch_dropout import PatchDropout, kept_patch_count
from training.loop.precision import DTYPE_NAMES, ComputePrecision, agree_on_precision, allow_tf32, channels_last
from training.loop.processes import Processes, keep_freed_memory, use_own_cores
from training.loop.towers import SharedTowers
from training.loop.train_unit import TrainUnit
from training.loop.trainer import Trainer
from training.metrics import METRICS, drop_records_after
from training.progress import console
from training.run_categories import choose_categories
from training.run_folder import CATEGORIES, guard_run_folder, write_config

log = logging.getLogger(__name__)


def setup(config: TrainConfig, run: Path, base: Path) -> Trainer:
    """A run in the folder `run`, from its newest checkpoint if there is one; paths of the data are relative to `base`.

    Raises ConfigError, BundleError, CheckpointError, ShardError, OSError.
    """
    processes = Processes.join(config.device)
    use_own_cores()
    check_partition(config.batch_size, processes.count, config.accumulate)
    keep_freed_memory()
    guard_run_folder(run, config)
    categories = choose_categories(config, base, run)
    initial = build_initial_model(config, categories.vocabulary if categories else None)
    of_samples = categories.of_samples if categories else None
    stored = config.objective.teacher == STORED
    data = TrainingSet(config.data, base, config.seed, processes, config.steps, of_samples, stored)
    scored = data.holdout if processes.first else None  # the others never score it
    holdout = build_holdout(scored, initial.preprocessing, initial.tokenizer, config, data.skipped)
    state = read_state(run) or TrainingState()
    processes.require_same("steps of the checkpoint they go on from", state.step)
    processes.require_same("training pictures", len(data))
    if categories:
        processes.require_same("categories", len(categories.vocabulary))
        processes.require_same("categories of all pictures together", len(categories.of_samples.of_samples.values))
    state.precision = precision = agree_on_precision(config, state.precision, processes)
    allow_tf32(precision)
    network = _place(initial.network, config, processes)
    towers = SharedTowers(network, initial.preprocessing, config, processes, precision)
    average = MovingAverage(network, config.ema_decay)
    optimizer = build_optimizer(network, config.optimizer)
    if state.step:
        restore_checkpoint(run, state.step, network, average, optimizer)
    unit = TrainUnit(config, towers, optimizer, average, precision, processes)
    if state.scaler:
        unit.scaler.load_state_dict(state.scaler)
    loader = Loader(config, data, initial.tokenizer, processes, PatchDropout.of(config, network.config))
    if processes.first:
        write_config(run, config)
        if categories:
            categories.vocabulary.write(run / CATEGORIES)
            console.print(describe_vocabulary(categories.vocabulary, shown=10), soft_wrap=True, markup=False)
        drop_records_after(run / METRICS, state.step)
        if config.data.holdout and (few := too_few(len(holdout), "the hold-out that chooses the checkpoint")):
            log.warning("%s: set data.holdout higher", few)
    console.print(
        f"{len(data):,} pictures, {len(data.holdout):,} held out; from step {state.step} to "
        f"{config.steps} in {run}, on {_describe_devices(config, processes, precision)}"
    )
    for line in without_effect(config, network.config, processes.count):
        console.print(f"without effect: {line}", soft_wrap=True)
    return Trainer(config, run, initial, data, holdout, unit, loader, state)


def without_effect(config: TrainConfig, model: ModelConfig, processes: int) -> list[str]:
    """Settings that are valid and change nothing in this run: a line for each, beginning with its field."""
    lines = []
    if config.parallel == "fsdp" and processes == 1:
        lines.append("parallel: fsdp divides nothing where there is one process; start several with torchrun")
    last = average_decay(1.0, config.steps - 1)
    if config.ema_decay > last:
        lines.append(
            f"ema_decay: {config.ema_decay:g} is not reached in {config.steps} steps; the average keeps less at first, "
            f"{last:.3f} at the end, and would with any value above that"
        )
    captions = config.data.captions
    if captions.teacher and captions.filters.min_similarity is None:
        lines.append("data.captions.teacher: it judges captions for filters.min_similarity, which is not set")
    lines += [
        f"stages: the one at {stage.start:g} begins after the last of {config.steps} steps"
        for stage in config.stages
        if stage.start * config.steps > config.steps - 1
    ]
    lines += captions_without_effect(config)
    lines += [
        f"patch_dropout: {config.patch_dropout:g} of {patches} patches is none of them"
        for patches in _patch_counts(config, model)
        if kept_patch_count(patches, config.patch_dropout) == patches
    ]
    return lines


def captions_without_effect(config: TrainConfig) -> list[str]:
    """How captions are drawn and worded, where categories are learned from all of them at once."""
    if config.objective.kind != "categories":
        return []
    data, usual = config.data, Data.model_fields
    named = {f"data.captions.{name}": name for name in ("templates", "transparent_templates", "weights", "mix")}
    changed = [field for field, name in named.items() if getattr(data.captions, name) != getattr(Captions(), name)]
    changed += ["data.max_long_text"] if data.max_long_text not in (0, usual["max_long_text"].default) else []
    changed += [f"data.train.{number}.all_labels" for number, source in enumerate(data.train) if source.all_labels]
    return [f"{field}: with categories no caption is drawn, and all categories are in every batch" for field in changed]


def _patch_counts(config: TrainConfig, model: ModelConfig) -> list[int]:
    """How many patches an image has in each stage, where some are to be dropped."""
    if not config.patch_dropout or isinstance(model.image, ResNetConfig):
        return []
    size = model.image.patch_size
    return [(stage.pixels // size) ** 2 for stage in config.stages]


def _place(network: Network, config: TrainConfig, processes: Processes) -> Network:
    """The network on its device; on several GPUs, batch norms take their statistics of all processes' images."""
    if config.parallel != "fsdp":  # which divides nothing but rows that follow each other
        network = channels_last(network)
    network = network.to(processes.device)
    if processes.count > 1 and processes.device.type == "cuda":
        synchronised: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return synchronised
    return network


def _describe_devices(config: TrainConfig, processes: Processes, precision: ComputePrecision) -> str:
    count, device = processes.count, processes.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    each = f"{count} processes ({config.parallel}), each on " if count > 1 else ""
    return f"{each}{name} in {DTYPE_NAMES[precision]}"
