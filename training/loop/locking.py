"""Locked towers: which layers learn at a step, unlocked at once or from the top down (LiT, Zhai et al. 2022)."""

from __future__ import annotations

from model.network import Network
from training.config import Lock, Span
from training.loop.optimizer import layer_depths


class Locks:
    """Sets which parameters of a network have gradients, and leaves the statistics of locked batch norms alone."""

    def __init__(self, network: Network, lock: Lock, steps: int) -> None:
        self._network, self._steps = network, steps
        self._spans: dict[str, Span] = {"image": lock.image, "text": lock.text}
        self._places = layer_depths(network)
        self._layers = {
            tower: sorted({depth for of, depth in self._places.values() if of == tower}, reverse=True)
            for tower in self._spans
        }

    def learning(self, tower: str, step: int) -> list[int]:
        """The layers of a tower, image or text, that learn at `step`: from the top down."""
        layers = self._layers[tower]
        first, last = (share * self._steps for share in self._spans[tower])
        if step >= last:
            return layers
        if step < first:
            return []
        return layers[: 1 + int((step - first) / (last - first) * (len(layers) - 1))]

    def apply(self, step: int) -> bool:
        """Lock and unlock as `step` wants it; true if that changed anything."""
        learning = {tower: self.learning(tower, step) for tower in self._spans}
        changed = False
        for name, parameter in self._network.named_parameters():
            tower, depth = self._places[name]
            learns = not tower or depth in learning[tower]
            if parameter.requires_grad != learns:
                parameter.requires_grad_(learns)
                changed = True
        self._network.train()
        for module in self._network.modules():
            own = list(module.parameters(recurse=False))
            if own and not any(parameter.requires_grad for parameter in own):
                module.train(False)
        return changed
