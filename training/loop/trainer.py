"""The training loop: `train_step` and `fit`, from the step that the last checkpoint has done to the last one."""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from model.export.tensors import write_tensors
from model.files import write_atomically
from model.network import Network
from model.progress import Count
from training.config import TrainConfig
from training.data.dataset import TrainingSet
from training.evaluation.category_holdout import build_holdout
from training.evaluation.holdout import Holdout
from training.evaluation.intervals import percent
from training.initial_model import InitialModel, load_start, network_from_state
from training.loop.checkpoint import TrainingState, full_state_dict, take_snapshot
from training.loop.checkpoint_writer import CheckpointWriter
from training.loop.loader import Loader, StepInputs
from training.loop.optimizer import clip_gradients, local_tensor
from training.loop.train_unit import NotFiniteError, TrainUnit
from training.metrics import METRICS, MetricsLogger, append_record
from training.progress import console, progress_bar
from training.run_folder import BEST, NOT_FINITE, list_checkpoints

MAX_KEYS = 20  # in a message; the file has all


def train_step(unit: TrainUnit, inputs: StepInputs) -> dict[str, float]:
    """One optimisation step; returns its metrics by the names they have in metrics.jsonl.

    `gradient_norm` is that before clipping; it is not finite for a step that float16 left out. Raises NotFiniteError:
    the weights are then not to be used any more.
    """
    step, network, optimizer, scaler = inputs.step, unit.network, unit.optimizer, unit.scaler
    unit.towers.freeze(step)
    rate = unit.set_learning_rate(step)
    batch = unit.batch_of(inputs)

    # Forward: features of this process's images and texts without their graph, then of the whole batch.
    image, text = unit.encoder.forward(inputs)  # [local images, dim], [local texts, dim]
    image.requires_grad_(unit.towers.learns("image", step))
    text.requires_grad_(unit.towers.learns("text", step))
    features = unit.gather((image, text), inputs)  # [images, dim], [texts, dim]
    loss = unit.loss(features, batch, inputs)  # this process's share
    total_loss = unit.processes.total(loss)

    # Backward, as far as the features, and from them through the towers.
    optimizer.zero_grad(set_to_none=True)
    unit.backward(loss, (image, text), inputs)

    # Clip, and update the weights and their moving average. Float16 leaves a step out whose gradients overflow.
    scaler.unscale_(optimizer)
    limit = unit.config.optimizer.clip_norm
    total_norm = clip_gradients(network, limit, unit.processes)
    skips_overflow, parameters = unit.skips_overflow(), unit.copy_loss_parameters()
    scaler.step(optimizer)
    scaler.update()
    network.clamp_logit_scale()
    unit.average.update(network, step)

    # Here alone a step waits for a GPU. What is not finite is noticed after the update, which nothing is made of.
    figures = total_loss, total_norm, network.logit_scale.detach().exp()
    loss_value, norm, logit_scale = torch.stack(figures).tolist()
    if not np.isfinite(loss_value):
        raise NotFiniteError(f"the loss at step {step} is not finite", unit.suspects(features, batch, parameters))
    if not np.isfinite(norm) and not skips_overflow:
        raise NotFiniteError(f"the gradient at step {step} is not finite", unit.suspects(features, batch, parameters))
    return {
        "loss": loss_value,
        "learning_rate": rate,
        "gradient_norm": norm,
        "clipped": float(limit is not None and limit < norm < float("inf")),
        "logit_scale": logit_scale,
    }


class Trainer:
    """A run in the folder `run`, as one of its processes holds it; `setup` builds it."""

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        initial: InitialModel,
        data: TrainingSet,
        holdout: Holdout,
        unit: TrainUnit,
        loader: Loader,
        state: TrainingState,
    ) -> None:
        self.config, self.run, self.initial = config, run, initial
        self.data, self.holdout = data, holdout
        self.unit, self.loader, self.state = unit, loader, state
        self.network, self.processes = unit.network, unit.processes
        self.loggers: list[MetricsLogger] = []
        self.checkpoints = CheckpointWriter(run, config.keep_checkpoints)

    def fit(self) -> Network | None:
        """Train to the last step; returns the network with the best held-out score, in the first process."""
        if self.config.start and self.config.text is None and self.state.step == 0:
            self.validate_start()
        with closing(self.loader):
            self._take_steps()
        self.processes.leave()
        return network_from_state(self.network.config, load_file(self.run / BEST)) if self.processes.first else None

    def _take_steps(self) -> None:
        config, state = self.config, self.state
        batches = self.loader.iterate(state.step)
        bar = progress_bar(Count("step", config.steps, state.step, "starting"))
        with self.checkpoints, bar as advance:
            while state.step < config.steps:
                self.checkpoints.raise_error()
                started = time.perf_counter()
                try:
                    metrics = train_step(self.unit, next(batches))
                except NotFiniteError as error:
                    raise self._explain(error) from error
                metrics["samples_per_s"] = config.batch_size / (time.perf_counter() - started)
                state.step += 1
                advance(state.step, _format_metrics(metrics))
                last = state.step == config.steps
                record = self._record_of(metrics)
                if last or state.step % config.evaluate_every == 0:
                    record |= self.validate(metrics["loss"])
                self._log(record)
                if last or state.step % config.checkpoint_every == 0:
                    self._save_checkpoint()

    def validate(self, loss: float) -> dict[str, Any]:
        """Score the moving average on the hold-out and keep it if it is the best so far.

        The first process does, and returns the scores for the metrics; the others go on.
        """
        average = full_state_dict(self.unit.average.state, self.processes)
        if not self.processes.first:
            return {}
        step = self.state.step
        score, by_source = self.holdout.score(network_from_state(self.network.config, average))
        console.print(f"step {step}: {self._format_score(score)}, loss {loss:.3f}", soft_wrap=True)
        if score is None or score >= self.state.best_score:
            self.state.best_score, self.state.best_step = score or 0.0, step
            with write_atomically(self.run / BEST) as draft:
                write_tensors(average, draft)
        return {"holdout": score, "holdout_by_source": by_source}

    def validate_start(self) -> None:
        """Score the bundle that is trained further, as it is: the first process does, the others go on."""
        average = full_state_dict(self.unit.average.state, self.processes)
        if not self.processes.first:
            return
        network, holdout = network_from_state(self.network.config, average), self.holdout
        if self.config.image_size is not None:
            start = load_start(self.config)
            network = start.network.eval()
            holdout = build_holdout(self.data.holdout, start.preprocessing, start.tokenizer, self.config)
        self.state.start_score, _ = holdout.score(network)
        console.print(f"start: {self._format_score(self.state.start_score)}", soft_wrap=True)

    def summary(self) -> dict[str, Any]:
        """How the bundle was made, for its manifest."""
        # Where bundles lay on this machine is nobody's business: the origin names the one that was begun with.
        configuration = self.config.model_dump(mode="json", exclude={"start"})
        if self.config.objective.teacher:
            configuration["objective"]["teacher"] = Path(self.config.objective.teacher).name
        if self.config.data.captions.teacher:
            configuration["data"]["captions"]["teacher"] = Path(self.config.data.captions.teacher).name
        categories = configuration["objective"]["categories"]
        categories["wordnet"] = Path(categories["wordnet"]).name
        if categories["vocabulary"]:
            categories["vocabulary"] = Path(categories["vocabulary"]).name
        return {
            **self.initial.origin,
            "configuration": configuration,
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "training_items": len(self.data),
            "held_out_items": len(self.holdout),
            "skipped_items": self.data.skip_counts,
            **(self.data.filtered.as_record() if self.data.filtered else {}),
            "samples_seen": self.state.best_step * self.config.batch_size,
            **{key: value for key, value in asdict(self.state).items() if key not in ("step", "scaler")},
        }

    def _record_of(self, metrics: dict[str, float]) -> dict[str, Any]:
        """The metrics of a step as they are logged."""
        step = self.state.step
        record: dict[str, Any] = {"step": step, "time": round(time.time(), 1), **metrics}
        if not math.isfinite(metrics["gradient_norm"]):
            record["gradient_norm"] = None  # JSON has no other word for it
            scale = self.unit.scaler.get_scale()
            console.print(
                f"step {step} is left out: its gradient overflows float16; losses are now scaled by {scale:g}"
            )
        record["skipped_samples"] = self.data.skipped.counts.total()
        return record

    def _log(self, record: dict[str, Any]) -> None:
        if self.processes.first:
            append_record(self.run / METRICS, record)
        for logger in self.loggers:
            logger.log(record)

    def _save_checkpoint(self) -> None:
        """Begin to write a checkpoint, of weights that are finite. Raises FloatingPointError and OSError."""
        broken = sum((~local_tensor(each).isfinite()).any().float() for each in self.network.parameters())
        if self.processes.total(torch.as_tensor(broken)):
            step = self.state.step - 1
            items = self.data.batch(step, self.config.batch_size).items
            raise self._explain(NotFiniteError(f"the weights after step {step} are not finite", items))
        self.state.scaler = self.unit.scaler.state_dict() or None
        self.checkpoints.wait()  # so that two copies are never held
        parts = self.network, self.unit.average, self.unit.optimizer, self.state, self.processes
        snapshot = take_snapshot(*parts)
        if snapshot is not None:
            self.checkpoints.write(snapshot)

    def _explain(self, error: NotFiniteError) -> FloatingPointError:
        """The error with the keys of its samples, which are also written into the run's folder, and what to do."""
        keys = self.data.keys(error.items)
        if self.processes.first:
            content = {"step": self.state.step, "message": str(error), "keys": keys}
            (self.run / NOT_FINITE).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        self.checkpoints.settle()
        more = f" and {len(keys) - MAX_KEYS} more" if len(keys) > MAX_KEYS else ""
        found = list_checkpoints(self.run)
        intact = f"The checkpoint {found[-1].name} is intact" if found else "There is no checkpoint yet"
        return FloatingPointError(
            f"{error}. Look at {', '.join(keys[:MAX_KEYS])}{more} (all in {self.run / NOT_FINITE}). {intact}; if the "
            "samples are sound, start a new run with a lower optimizer.learning_rate or more optimizer.warmup_steps"
        )

    def _format_score(self, score: float | None) -> str:
        """A held-out score for people, and how far it is from that of the start."""
        if score is None:
            return "nothing held out to choose by"
        start = self.state.start_score
        moved = f", {100 * (score - start):+.1f} points from the start" if start is not None else ""
        return f"held-out {self.holdout.figure} {percent(score, len(self.holdout))}{moved if self.state.step else ''}"


def _format_metrics(metrics: dict[str, float]) -> str:
    return (
        f"loss {metrics['loss']:.3f}  scale {metrics['logit_scale']:.1f}  "
        f"{metrics['samples_per_s']:.0f} pictures/s  lr {metrics['learning_rate']:.1e}"
    )
