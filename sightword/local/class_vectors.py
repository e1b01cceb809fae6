"""The vectors of lists of labels, of which the last few are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from model.zeroshot import class_vectors, fill
from sightword.local.towers import Named
from sightword.results import Vectors

KEPT = 8
Key = tuple[tuple[str, ...], tuple[str, ...], bool, bool]


class ClassVectors:
    """Embeds the prompts of labels with `embed`, which takes them with `truncate`."""

    def __init__(self, embed: Callable[[Iterable[Named], bool], Vectors], dimensions: int) -> None:
        self._embed, self._dimensions = embed, dimensions
        self._kept: OrderedDict[Key, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, labels: Sequence[str], templates: Sequence[str], truncate: bool, without_label: bool = False
    ) -> Vectors:
        """[labels, dimensions], with one more row for the template without a label. Raises TextTooLongError."""
        key = (tuple(labels), tuple(templates), truncate, without_label)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._compute(labels, templates, truncate, without_label)
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _compute(self, labels: Sequence[str], templates: Sequence[str], truncate: bool, without_label: bool) -> Vectors:
        prompts = [
            (f"labels.{index}", fill(template, label)) for index, label in enumerate(labels) for template in templates
        ]
        if without_label:
            prompts += [("templates", fill(template, "").strip()) for template in templates]
        vectors = self._embed([(index, *prompt) for index, prompt in enumerate(prompts)], truncate)
        return class_vectors(vectors.reshape(-1, len(templates), self._dimensions))
