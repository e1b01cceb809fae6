"""The training loop: one run from configuration to best checkpoint, resumable at any step."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from torch import Tensor, nn

from model.network import CLIP, Network
from model.tensors import write_tensors
from training.config import TrainConfig
from training.data.augment import augment
from training.data.holdout import Holdout
from training.data.training_set import Batch, TrainingSet
from training.loop import checkpoint
from training.loop.claim import check_claim, claim
from training.loop.loss import affinity_loss, contrastive_loss, sigmoid_loss
from training.loop.memory import keep_freed_memory
from training.loop.optimizer import MovingAverage, build_optimizer, learning_rate
from training.loop.precision import channels_last, choose_precision
from training.loop.starting import begin
from training.loop.teacher import Teacher
from training.progress import console
from training.report.watching import Watcher

BEST = "best.safetensors"
METRICS = "metrics.jsonl"
TEXT_GROUP = 128  # texts of similar length that are padded together


class Trainer:
    """State of a run in the folder `run`."""

    def __init__(self, config: TrainConfig, run: Path, base: Path) -> None:
        self.config, self.run = config, run
        self.watchers: list[Watcher] = []
        keep_freed_memory()
        check_claim(run, config)
        beginning = begin(config)
        self.preprocessing, self.tokenizer = beginning.preprocessing, beginning.tokenizer
        self._origin = beginning.origin
        self.data = TrainingSet(config.data, base, config.seed)
        self.holdout = Holdout(self.data.holdout, self.preprocessing, self.tokenizer, config)
        self.network = channels_last(beginning.network)
        objective = config.objective
        self.teacher = Teacher(Path(objective.teacher), objective.teacher_scale) if objective.teacher else None
        self.average = MovingAverage(self.network, config.ema_decay)
        self.optimizer = build_optimizer(self.network, config.optimizer)
        restored = checkpoint.load_checkpoint(run, self.network, self.average, self.optimizer)
        self.progress = restored or checkpoint.Progress()
        if self.progress.bf16 is None:
            self.progress.bf16 = choose_precision(config.precision)
        claim(run, config)
        _forget_after(run / METRICS, self.progress.step)
        kind = "bfloat16" if self.progress.bf16 else "float32"
        console.print(
            f"{len(self.data):,} pictures, {len(self.data.holdout):,} held out; from step {self.progress.step} to "
            f"{config.steps} in {run}, on CPU in {kind}"
        )

    def train(self) -> Network:
        """Run to the last step; returns the network with the best held-out score."""
        columns = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}")]
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("starting", total=self.config.steps, completed=self.progress.step)
            while self.progress.step < self.config.steps:
                figures = self._step(self.progress.step)
                self.progress.step += 1
                bar.update(task, completed=self.progress.step, description=_describe(figures))
                self._after(self.progress.step, figures)
        best = self.average.network
        best.load_state_dict(load_file(self.run / BEST))
        return best

    def _step(self, step: int) -> dict[str, float]:
        began = time.perf_counter()
        config = self.config
        rate = learning_rate(config.optimizer, step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        batch = self.data.batch(step, config.batch_size)
        rgb = self._pictures(step, batch)
        image, text = self._encode(step, rgb, batch.texts)
        loss = self._loss(image, text, batch)
        if self.teacher is not None:
            logits = self.network.logit_scale.exp() * image @ text.T
            loss = loss + config.objective.teacher_weight * affinity_loss(logits, self.teacher.logits(rgb, batch.texts))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.optimizer.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"the gradient at step {step} is not finite. The last checkpoint is intact; start a new run with a "
                "lower optimizer.learning_rate or more optimizer.warmup_steps"
            )
        self.optimizer.step()
        if isinstance(self.network, CLIP):
            self.network.clamp_logit_scale()
        self.average.update(self.network, step)
        seconds = time.perf_counter() - began
        return {
            "loss": float(loss.detach()),
            "learning_rate": rate,
            "gradient_norm": float(norm),
            "logit_scale": float(self.network.logit_scale.detach().exp()),
            "samples_per_s": config.batch_size / seconds,
        }

    def _encode(self, step: int, rgb: Tensor, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Vectors of unit length in float32; of a locked tower without gradient, its statistics as they are."""
        config = self.config
        image_learns, text_learns = (step >= share * config.steps for share in (config.lock.image, config.lock.text))
        self.network.train()
        self.network.visual.train(image_learns)
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(self.progress.bf16)):
            with torch.set_grad_enabled(image_learns):
                image = self.network.encode_image(self._normalised(rgb))
            with torch.set_grad_enabled(text_learns):
                text = self._encode_texts(texts)
        return nn.functional.normalize(image.float(), dim=-1), nn.functional.normalize(text.float(), dim=-1)

    def _loss(self, image: Tensor, text: Tensor, batch: Batch) -> Tensor:
        scale, bias = self.network.logit_scale.exp(), self.network.logit_bias
        if bias is not None:
            return sigmoid_loss(image, text, scale, bias, batch.positive, batch.ignored)
        return contrastive_loss(image, text, scale, batch.positive, batch.ignored, batch.counts)

    def _pictures(self, step: int, batch: Batch) -> Tensor:
        """Augmented pictures [batch, 3, side, side] of the batch, from 0 to 1."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        pictures = self.data.pictures(batch.items)
        side, smallest = self.config.pixels_at(step), self.config.min_crop
        return augment(pictures.rgba, pictures.aspects, pictures.transparent, side, smallest, generator)

    def _normalised(self, rgb: Tensor) -> Tensor:
        mean = torch.tensor(self.preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocessing.std).view(1, 3, 1, 1)
        return ((rgb - mean) / std).contiguous(memory_format=torch.channels_last)

    def _encode_texts(self, texts: list[str]) -> Tensor:
        """[texts, embed_dim], in order; texts are padded in groups of similar length, since most are short."""
        rows = [self.tokenizer.truncate(row) for row in self.tokenizer.encode(texts)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        groups = [order[i : i + TEXT_GROUP] for i in range(0, len(order), TEXT_GROUP)]
        padded = [torch.from_numpy(self.tokenizer.pad([rows[i] for i in group])) for group in groups]
        encoded = torch.cat([self.network.encode_text(ids) for ids in padded])
        return encoded[torch.tensor(order).argsort()]

    def _after(self, step: int, figures: dict[str, float]) -> None:
        last = step == self.config.steps
        record: dict[str, Any] = {"step": step, "time": round(time.time(), 1), **figures}
        if last or step % self.config.evaluate_every == 0:
            score, by_source = self.holdout.score(self.average.network)
            record |= {"holdout": score, "holdout_by_source": by_source}
            told = "no labels to choose by" if score is None else f"held-out zero-shot top-1 {score:.1%}"
            console.print(f"step {step}: {told}, loss {figures['loss']:.3f}")
            if score is None or score >= self.progress.best_score:
                self.progress.best_score, self.progress.best_step = score or 0.0, step
                self._save_best()
        with (self.run / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for watcher in self.watchers:
            watcher.tell(record)
        if last or step % self.config.checkpoint_every == 0:
            checkpoint.save_checkpoint(self.run, self.network, self.average, self.optimizer, self.progress)

    def _save_best(self) -> None:
        draft = self.run / f"{BEST}.partial"
        write_tensors(self.average.network.state_dict(), draft)
        draft.replace(self.run / BEST)

    def summary(self) -> dict[str, Any]:
        """What the bundle's manifest tells of the run."""
        configuration = self.config.model_dump(mode="json")
        return {
            **self._origin,
            # Where a bundle lay on this machine is nobody's business: the origin names it.
            "configuration": {name: value for name, value in configuration.items() if name != "start"},
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "training_items": len(self.data),
            "held_out_items": len(self.data.holdout),
            "samples_seen": self.progress.best_step * self.config.batch_size,
            **{key: value for key, value in asdict(self.progress).items() if key != "step"},
        }


def _describe(figures: dict[str, float]) -> str:
    return (
        f"loss {figures['loss']:.3f}  scale {figures['logit_scale']:.1f}  "
        f"{figures['samples_per_s']:.0f} pictures/s  lr {figures['learning_rate']:.1e}"
    )


def _forget_after(metrics: Path, step: int) -> None:
    """Drop the lines of steps that a killed run did after its last checkpoint: they are done again."""
    if not metrics.exists():
        return
    kept = [line for line in metrics.read_text("utf-8").splitlines(keepends=True) if _step_of(line) <= step]
    draft = metrics.with_suffix(".partial")
    draft.write_text("".join(kept), "utf-8")
    draft.replace(metrics)


def _step_of(line: str) -> float:
    """The step of a line; infinity for one that the kill cut in two."""
    try:
        return float(json.loads(line)["step"])
    except json.JSONDecodeError:
        return float("inf")
