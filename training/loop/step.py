"""One optimisation step: vectors, loss, gradients, weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.config import Preprocessing
from model.network import Network
from training.config import TrainConfig
from training.data.training_set import Batch
from training.loop.encoding import Encoding, Vectors
from training.loop.loading import Presenting, Work, on_device
from training.loop.locking import Locks
from training.loop.loss import Rows, affinity_loss, contrastive_loss, picture_losses, sigmoid_loss
from training.loop.optimizer import MovingAverage, clip_gradients, learning_rate
from training.loop.precision import Chosen
from training.loop.processes import Processes
from training.loop.teacher import Teacher
from training.loop.towers import SharedTowers, Towers

SMALLEST_SCALE = 1e-4  # of float16's losses, as of fairseq: what overflows even then is not only large
STAND_OUT = 10  # pictures with the largest losses that are named where no single one is to blame


class NotFiniteError(FloatingPointError):
    """A loss or gradient that is not finite; `items` of the data are those to look at."""

    def __init__(self, message: str, items: npt.NDArray[np.int64]) -> None:
        super().__init__(message)
        self.items = items


class Stepper:
    """Takes steps with a network, which it shares among processes; the optimizer is to be built after it."""

    def __init__(
        self, config: TrainConfig, network: Network, preprocessing: Preprocessing, processes: Processes
    ) -> None:
        self.config, self.network, self.processes = config, network, processes
        self._locks = Locks(network, config.lock, config.steps)
        self._locks.apply(0)
        self._towers = SharedTowers(Towers(network, preprocessing).to(processes.device), config, processes)
        self._towers.unlocked()
        self._presenting = Presenting(config, network, processes.device)
        objective = config.objective
        self.teacher = Teacher(Path(objective.teacher)) if objective.teacher else None

    def begin(self, precision: Chosen, optimizer: torch.optim.AdamW, average: MovingAverage) -> None:
        """Say what is known only once a checkpoint has been read."""
        device = self.processes.device
        self.encoding = Encoding(self._towers, self._presenting, precision, device)
        self.optimizer, self.average = optimizer, average
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def __call__(self, step: int, work: Work) -> dict[str, float]:
        """Take one; returns its figures by the names they have in metrics.jsonl. Raises NotFiniteError.

        The norm of the gradient is that before it was clipped; not finite for a step that float16 left out.
        """
        config, network = self.config, self.network
        if self._locks.apply(step):
            self._towers.unlocked()
        rate = learning_rate(config.optimizer, step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        batch = self._present(work)
        image, text = self.encoding.forward(work.chunks, step)
        learns = [bool(self._locks.learning(tower, step)) for tower in ("image", "text")]
        leaves = image.requires_grad_(learns[0]), text.requires_grad_(learns[1])
        vectors = self.processes.gather(image, work.rows), self.processes.gather(text, work.columns)
        share = self.loss(vectors, batch, work, step)
        loss = float(self.processes.total(share))
        if not np.isfinite(loss):
            raise NotFiniteError(f"the loss at step {step} is not finite", self._suspects(vectors, batch))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(share))
        for scalar in (network.logit_scale, network.logit_bias):
            if scalar is not None and scalar.grad is not None:
                scalar.grad = self.processes.total(scalar.grad)
        # Towers take the mean of what all processes find; the sum is meant.
        wanted = [None if leaf.grad is None else leaf.grad * self.processes.count for leaf in leaves]
        self.encoding.backward(work.chunks, step, (wanted[0], wanted[1]))
        norm = self._update(step)
        if norm is None:
            raise NotFiniteError(f"the gradient at step {step} is not finite", self._suspects(vectors, batch))
        limit = config.optimizer.clip_norm
        return {
            "loss": loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "clipped": float(limit is not None and limit < norm < float("inf")),
            "logit_scale": float(network.logit_scale.detach().exp()),
        }

    def _present(self, work: Work) -> Batch:
        """The batch on the device, without the pictures that any process could not read."""
        mine = torch.cat([block.pictures.present for chunk in work.chunks for block in chunk.blocks])
        there = self.processes.gather(mine.float().to(self.processes.device), work.rows).bool()
        batch = on_device(work.batch, self.processes.device)
        return batch if there.all() else batch.without(~there)

    def loss(self, vectors: Vectors, batch: Batch, work: Work, step: int) -> Tensor:
        """This process's share of it."""
        (image, text), network, objective = vectors, self.network, self.config.objective
        rank = self.processes.rank
        rows = Rows(work.rows[rank], work.columns[rank])
        scale, bias = network.logit_scale.exp(), network.logit_bias
        if bias is not None:
            loss = sigmoid_loss(image, text, scale, bias, batch.positive, batch.ignored, rows)
        else:
            loss = contrastive_loss(image, text, scale, batch.positive, batch.ignored, batch.counts, rows)
        if self.teacher is None:
            return loss
        their_image, their_text = self.encoding.taught(work.chunks, step, self.teacher)
        theirs = self.processes.gather(their_image, work.rows), self.processes.gather(their_text, work.columns)
        return loss + objective.teacher_weight * affinity_loss(vectors, scale, theirs, objective.teacher_scale, rows)

    def _update(self, step: int) -> float | None:
        """Change the weights; returns the norm of the gradient, or None where it is not finite.

        With float16 such a step is left out, and the next losses are scaled less.
        """
        self.scaler.unscale_(self.optimizer)
        norm = float(clip_gradients(self.network, self.config.optimizer.clip_norm, self.processes))
        if not np.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() < SMALLEST_SCALE):
            return None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.network.clamp_logit_scale()
        self.average.update(self.network, step)
        return norm

    def _suspects(self, vectors: Vectors, batch: Batch) -> npt.NDArray[np.int64]:
        """The items whose vectors are not finite, or else whose losses are not, or else are largest."""
        image, text = (each.detach() for each in vectors)
        bad = ~image.isfinite().all(dim=1) | ~text.isfinite().all(dim=1)[batch.drawn]
        scale, bias = self.network.logit_scale.detach().exp(), self.network.logit_bias
        losses = picture_losses(image, text, scale, bias, batch.positive, batch.ignored)
        bad = bad if bad.any() else ~losses.isfinite()
        rows = bad.nonzero().flatten() if bad.any() else losses.topk(min(STAND_OUT, len(losses))).indices
        items: npt.NDArray[np.int64] = batch.items[rows.cpu().numpy()]
        return items
