"""What one optimisation step needs: the shared towers, the objective, the optimizer and the moving average."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.network import loss_parameters
from model.runtime.providers import Device
from training.config import TrainConfig
from training.data.collate import Batch
from training.data.decoding_pool import cores_of_process
from training.loop.augmenter import Augmenter
from training.loop.gradient_cache import GradientCache
from training.loop.loader import StepInputs
from training.loop.optimizer import MovingAverage, learning_rate
from training.loop.precision import ComputePrecision
from training.loop.processes import Processes
from training.loop.towers import SharedTowers
from training.objectives import build_objective
from training.objectives.distillation import Distillation
from training.objectives.objective import Features, LocalRows

MIN_LOSS_SCALE = 1e-4  # of float16's losses, as of fairseq: what overflows even then is not only large
MAX_SUSPECTS = 10  # images with the largest losses that are named where no single one is to blame


class NotFiniteError(FloatingPointError):
    """A loss, gradient or weight that is not finite; `items` of the training set are those to look at."""

    def __init__(self, message: str, items: npt.NDArray[np.int64]) -> None:
        super().__init__(message)
        self.items = items


class TrainUnit:
    """The parts of a step, as `train_step` uses them."""

    def __init__(
        self,
        config: TrainConfig,
        towers: SharedTowers,
        optimizer: torch.optim.AdamW,
        average: MovingAverage,
        precision: ComputePrecision,
        processes: Processes,
    ) -> None:
        """Raises BundleError and EngineError of a teacher that cannot be loaded."""
        self.config, self.processes = config, processes
        self.network, self.towers = towers.network, towers
        self.optimizer, self.average = optimizer, average
        self.augmenter = Augmenter(config, processes.device)
        self.encoder = GradientCache(towers, self.augmenter, precision, processes.device)
        self.objective = build_objective(config.objective)
        self.distillation = self._distillation() if config.objective.teacher else None
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=precision == "fp16")

    def set_learning_rate(self, step: int) -> float:
        """Give each group of parameters its share of the scheduled rate, which is returned."""
        rate = learning_rate(self.config.optimizer, step, self.config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        return rate

    def batch_of(self, inputs: StepInputs) -> Batch:
        """The batch on the device, without the images that any process could not read."""
        present = torch.cat([part.images.present for part in inputs.micro_batches])
        if self.processes.count > 1:
            present = self.processes.gather(present.float().to(self.processes.device), inputs.image_slices).bool()
        batch = inputs.batch.to(self.processes.device)
        return batch if present.all() else batch.without(~present.to(self.processes.device))

    def gather(self, features: Features, inputs: StepInputs) -> Features:
        """The features of the whole batch, by those of each process, with gradient."""
        image, text = features
        return self.processes.gather(image, inputs.image_slices), self.processes.gather(text, inputs.text_slices)

    def loss(self, features: Features, batch: Batch, inputs: StepInputs) -> Tensor:
        """This process's share of the loss of the batch, with that of a teacher."""
        local = LocalRows(inputs.image_slices[self.processes.rank], inputs.text_slices[self.processes.rank])
        loss = self.objective.loss(features, self.network, batch, local, inputs.step / self.config.steps)
        if self.distillation is None:
            return loss
        teacher = self.gather(self.encoder.teacher_features(inputs, self.distillation.teacher), inputs)
        return loss + self.distillation.loss(features, self.network.logit_scale.exp(), teacher, local)

    def backward(self, loss: Tensor, features: Features, inputs: StepInputs) -> None:
        """Gradients of `loss`: of its own parameters, then by those of the local `features` of the towers."""
        torch.autograd.backward(self.scaler.scale(loss))
        for parameter in self._loss_parameters():
            if parameter.grad is not None:
                parameter.grad = self.processes.total(parameter.grad)
        # Towers take the mean of what all processes find; the sum is meant.
        image, text = (None if each.grad is None else each.grad * self.processes.count for each in features)
        self.encoder.backward(inputs, (image, text))

    def skips_overflow(self) -> bool:
        """Whether a gradient that is not finite may be an overflow of float16, whose scale can still be lowered."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= MIN_LOSS_SCALE

    def copy_loss_parameters(self) -> list[Tensor]:
        """Logit scale, bias and what else the loss has as they are, for `suspects`."""
        return [parameter.detach().clone() for parameter in self._loss_parameters()]

    def suspects(self, features: Features, batch: Batch, parameters: list[Tensor]) -> npt.NDArray[np.int64]:
        """The items whose features are not finite, or else whose losses are not, or else are largest.

        Puts `parameters` back, with which the loss was taken: the update may have broken them.
        """
        for parameter, value in zip(self._loss_parameters(), parameters, strict=True):
            parameter.data.copy_(value)
        image, text = (each.detach() for each in features)
        bad = ~image.isfinite().flatten(1).all(dim=1) | ~text.isfinite().all(dim=1)[batch.drawn]
        losses = self.objective.image_losses((image, text), self.network, batch)
        bad = bad if bad.any() else ~losses.isfinite()
        rows = bad.nonzero().flatten() if bad.any() else losses.topk(min(MAX_SUSPECTS, len(losses))).indices
        items: npt.NDArray[np.int64] = batch.items[rows.cpu().numpy()]
        return items

    def _distillation(self) -> Distillation:
        """With the teacher on the GPU of this process, where it has one, or else on its share of the cores."""
        return Distillation(self.config.objective, cores_of_process(), Device(self.processes.device.index or 0))

    def _loss_parameters(self) -> list[nn.Parameter]:
        return list(loss_parameters(self.network).values())
