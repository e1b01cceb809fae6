"""The training loop: one run from configuration to best checkpoint, resumable at any step."""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from safetensors.torch import load_file
from torch import nn

from model.export.tensors import write_tensors
from model.network import Network
from model.progress import Count
from training.config import ConfigError, TrainConfig
from training.data.holdout import Holdout
from training.data.training_set import TrainingSet
from training.evaluation.intervals import percent, too_few
from training.loop.checkpoint import Progress, checkpoints, durable, load_checkpoint, save_checkpoint, whole
from training.loop.claim import check_claim, claim
from training.loop.loading import Loader
from training.loop.memory import keep_freed_memory
from training.loop.metrics import METRICS, Watcher, forget_after
from training.loop.optimizer import MovingAverage, build_optimizer, own_part
from training.loop.precision import NAMES, allow_tf32, channels_last, choose_precision
from training.loop.processes import Processes
from training.loop.shares import check_shares
from training.loop.starting import begin, network_of, start_as_it_is
from training.loop.step import NotFiniteError, Stepper
from training.loop.without_effect import without_effect
from training.progress import console, lines

log = logging.getLogger(__name__)

BEST = "best.safetensors"
NOT_FINITE = "not_finite.json"
NAMED = 20  # keys in a message; the file has all


class Trainer:
    """State of a run in the folder `run`, as one of its processes holds it."""

    def __init__(self, config: TrainConfig, run: Path, base: Path) -> None:
        self.config, self.run, self.base = config, run, base
        self.watchers: list[Watcher] = []
        self.processes = Processes.join(config.device)
        check_shares(config.batch_size, self.processes.count, config.accumulate)
        keep_freed_memory()
        check_claim(run, config)
        beginning = begin(config)
        self.preprocessing, self.tokenizer = beginning.preprocessing, beginning.tokenizer
        self._origin = beginning.origin
        self.data = TrainingSet(config.data, base, config.seed)
        self.holdout = Holdout(self.data.holdout, self.preprocessing, self.tokenizer, config, self.data.troubles)
        self.network = self._placed(beginning.network)
        self.step = Stepper(config, self.network, self.preprocessing, self.processes)
        self.average = MovingAverage(self.network, config.ema_decay)
        self.optimizer = build_optimizer(self.network, config.optimizer)
        self.progress = load_checkpoint(run, self.network, self.average, self.optimizer) or Progress()
        self._settle_precision()
        self.loader = Loader(config, self.data, self.tokenizer, self.processes)
        if self.processes.first:
            claim(run, config)
            forget_after(run / METRICS, self.progress.step)
            if config.data.holdout and (few := too_few(len(self.holdout), "the hold-out that chooses the checkpoint")):
                log.warning("%s: set data.holdout higher", few)
        console.print(
            f"{len(self.data):,} pictures, {len(self.data.holdout):,} held out; from step {self.progress.step} to "
            f"{config.steps} in {run}, on {self._place()}"
        )
        for line in without_effect(config, self.network.config, self.processes.count):
            console.print(f"without effect: {line}", soft_wrap=True)

    def train(self) -> Network | None:
        """Run to the last step; returns the network with the best held-out score, to the first process."""
        if self.config.start and self.progress.step == 0:
            self._score_start()
        columns = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")]
        count = Count("step", self.config.steps, self.progress.step, "starting")
        in_log = nullcontext() if console.is_terminal else lines(count)
        with ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar, in_log:
            task = bar.add_task("starting", total=self.config.steps, completed=self.progress.step)
            while self.progress.step < self.config.steps:
                figures = self._step(self.progress.step)
                self.progress.step += 1
                count.done, count.detail = self.progress.step, _describe(figures)
                bar.update(task, completed=count.done, description=count.detail)
                self._after(self.progress.step, figures)
        self.loader.close()
        self.processes.leave()
        return network_of(self.network.config, load_file(self.run / BEST)) if self.processes.first else None

    def _step(self, step: int) -> dict[str, float]:
        began = time.perf_counter()
        try:
            figures = self.step(step, self.loader.work(step))
        except NotFiniteError as error:
            raise self._told(error) from error
        return {**figures, "samples_per_s": self.config.batch_size / (time.perf_counter() - began)}

    def _after(self, step: int, figures: dict[str, float]) -> None:
        last = step == self.config.steps
        record: dict[str, Any] = {"step": step, "time": round(time.time(), 1), **figures}
        if not math.isfinite(figures["gradient_norm"]):
            record["gradient_norm"] = None  # JSON has no other word for it
            scale = self.step.scaler.get_scale()
            console.print(
                f"step {step} is left out: its gradient overflows float16; losses are now scaled by {scale:g}"
            )
        record["skipped_samples"] = self.data.troubles.counts.total()
        if last or step % self.config.evaluate_every == 0:
            record |= self._evaluated(step, figures["loss"])
        if self.processes.first:
            with (self.run / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        for watcher in self.watchers:
            watcher.tell(record)
        if last or step % self.config.checkpoint_every == 0:
            self._save()

    def _save(self) -> None:
        """Add a checkpoint, of weights that are finite."""
        broken = sum((~own_part(each).isfinite()).any().float() for each in self.network.parameters())
        if self.processes.total(torch.as_tensor(broken)):
            step = self.progress.step - 1
            items = self.data.batch(step, self.config.batch_size).items
            raise self._told(NotFiniteError(f"the weights after step {step} are not finite", items))
        self.progress.scaler = self.step.scaler.state_dict() or None
        parts = self.network, self.average, self.optimizer, self.progress, self.processes
        save_checkpoint(self.run, *parts, self.config.keep_checkpoints)

    def _evaluated(self, step: int, loss: float) -> dict[str, Any]:
        """Score the moving average and keep it if it is the best so far; the first process does, the others go on."""
        state = whole(self.average.state, self.processes)
        if not self.processes.first:
            return {}
        score, by_source = self.holdout.score(network_of(self.network.config, state))
        console.print(f"step {step}: {self._held_out(score)}, loss {loss:.3f}", soft_wrap=True)
        if score is None or score >= self.progress.best_score:
            self.progress.best_score, self.progress.best_step = score or 0.0, step
            with durable(self.run / BEST) as draft:
                write_tensors(state, draft)
        return {"holdout": score, "holdout_by_source": by_source}

    def _score_start(self) -> None:
        """Score the bundle that is trained further, as it is: the first process does, the others go on."""
        state = whole(self.average.state, self.processes)
        if not self.processes.first:
            return
        network, holdout = network_of(self.network.config, state), self.holdout
        if self.config.image_size is not None:
            start = start_as_it_is(self.config)
            network = start.network.eval()
            holdout = Holdout(self.data.holdout, start.preprocessing, start.tokenizer, self.config)
        self.progress.start_score, _ = holdout.score(network)
        console.print(f"start: {self._held_out(self.progress.start_score)}", soft_wrap=True)

    def _held_out(self, score: float | None) -> str:
        """A held-out score for people, and how far it is from that of the start."""
        if score is None:
            return "nothing held out to choose by"
        start = self.progress.start_score
        moved = f", {100 * (score - start):+.1f} points from the start" if start is not None else ""
        return f"held-out zero-shot top-1 {percent(score, len(self.holdout))}{moved if self.progress.step else ''}"

    def _placed(self, network: Network) -> Network:
        if self.config.parallel != "fsdp":  # which divides nothing but rows that follow each other
            network = channels_last(network)
        network = network.to(self.processes.device)
        if self.processes.count > 1 and self.processes.device.type == "cuda":
            synchronised: Network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
            return synchronised
        return network

    def _settle_precision(self) -> None:
        """Choose it, as the first process finds, unless the checkpoint says what the run began with."""
        progress, device = self.progress, self.processes.device
        chosen = progress.precision or choose_precision(self.config.precision, device)
        if chosen == "fp16" and self.config.parallel == "fsdp":  # by auto: the configuration refuses it by name
            raise ConfigError("precision: auto is fp16 here, which parallel: fsdp cannot scale: choose fp32, or ddp")
        kinds = list(NAMES)
        progress.precision = kinds[self.processes.of_first(kinds.index(chosen))]
        allow_tf32(progress.precision)
        self.step.begin(progress.precision, self.optimizer, self.average)
        if progress.scaler:
            self.step.scaler.load_state_dict(progress.scaler)

    def _place(self) -> str:
        count, device = self.processes.count, self.processes.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        processes = f"{count} processes ({self.config.parallel}), each on " if count > 1 else ""
        assert self.progress.precision is not None
        return f"{processes}{name} in {NAMES[self.progress.precision]}"

    def _told(self, error: NotFiniteError) -> FloatingPointError:
        """With the keys of the samples, which are also written into the run's folder."""
        keys = self.data.keys(error.items)
        if self.processes.first:
            content = {"step": self.progress.step, "message": str(error), "keys": keys}
            (self.run / NOT_FINITE).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        there = checkpoints(self.run)
        intact = f"The checkpoint {there[-1].name} is intact" if there else "There is no checkpoint yet"
        return FloatingPointError(
            f"{error}. Look at {', '.join(keys[:NAMED])}{more} (all in {self.run / NOT_FINITE}). {intact}; if the "
            "samples are sound, start a new run with a lower optimizer.learning_rate or more optimizer.warmup_steps"
        )

    def summary(self) -> dict[str, Any]:
        """What the bundle's manifest tells of the run."""
        # Where bundles lay on this machine is nobody's business: the origin names the one that was begun with.
        configuration = self.config.model_dump(mode="json", exclude={"start"})
        if self.config.objective.teacher:
            configuration["objective"]["teacher"] = Path(self.config.objective.teacher).name
        return {
            **self._origin,
            "configuration": configuration,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "training_items": len(self.data),
            "held_out_items": len(self.holdout),
            "skipped_items": self.data.skipped,
            "samples_seen": self.progress.best_step * self.config.batch_size,
            **{key: value for key, value in asdict(self.progress).items() if key not in ("step", "scaler")},
        }


def _describe(figures: dict[str, float]) -> str:
    return (
        f"loss {figures['loss']:.3f}  scale {figures['logit_scale']:.1f}  "
        f"{figures['samples_per_s']:.0f} pictures/s  lr {figures['learning_rate']:.1e}"
    )
