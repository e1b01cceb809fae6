"""Of a data set what a model can be asked for in words: all of it, or the classes that are categories of the model.

A model that knows categories by name only is measured on the classes that it has, among these: pictures of the others
are left out, counted, and named in a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model.data.skipped_samples import SkippedSamples
from model.embedder import Embedder, Vectors
from training.evaluation.datasets import DataError, Split

log = logging.getLogger(__name__)
NO_CATEGORY = "its class is no category of the model"
SHOWN = 5  # classes that a warning names


class KnownClasses:
    """`names` are those for prompts, by class; a class that is not there is called as it is."""

    def __init__(self, embedder: Embedder, names: Mapping[str, Sequence[str]]) -> None:
        self._embedder, self._names = embedder, names
        self.names_only = embedder.bundle.categories is not None
        self.left_out: list[str] = []  # data sets of which nothing could be asked for

    def names(self, name: str) -> list[str]:
        """What a class is called."""
        return list(self._names.get(name, [name]))

    def among(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are texts to the model."""
        unknown = set(self._embedder.unknown(names))
        return [each for each in names if each not in unknown]

    def part(self, dataset: str, split: Split, images: Vectors) -> tuple[Split, Vectors] | None:
        """The split and the embeddings [images, ...] of its pictures, without classes that are not known.

        None where no class is, which is said in a warning.
        """
        known = [name for name in split.classes if self.among(self.names(name))]
        if len(known) == len(split.classes):
            return split, images
        missing = [name for name in split.classes if name not in set(known)]
        some = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else "")
        if not known:
            self._leave_out(dataset, f"none of its {len(missing):,} classes is a category of the model: {some}")
            return None
        log.warning("%s: %d of %d classes are no categories of the model, and are left out with their pictures: %s",
                    dataset, len(missing), len(split.classes), some)  # fmt: skip
        if split.truth is not None:
            columns = [number for number, name in enumerate(split.classes) if name in set(known)]
            return replace(split, classes=known, truth=split.truth[:, columns]), images
        kept, kept_images = restrict_to_classes(split, images, known)
        skipped = SkippedSamples()
        skipped.counts.update(split.skipped.counts)
        skipped.counts[NO_CATEGORY] += len(split) - len(kept)
        return replace(kept, skipped=skipped), kept_images

    def reads_captions(self, dataset: str, *, asked_for: bool) -> bool:
        """Whether captions are texts to the model. Raises DataError where they are not, if retrieval is `asked_for`."""
        if not self.names_only:
            return True
        why = "the model knows categories by name only, and reads no captions"
        if asked_for:
            raise DataError(f"{dataset}: {why}: leave out --task retrieval")
        self._leave_out(dataset, why)
        return False

    def _leave_out(self, dataset: str, why: str) -> None:
        log.warning("%s is not measured: %s", dataset, why)
        self.left_out.append(f"{dataset}: {why}")


def restrict_to_classes(split: Split, images: Vectors, classes: Sequence[str]) -> tuple[Split, Vectors]:
    """The split and its embeddings with the pictures of those classes only, and only those to choose from."""
    missing = sorted(set(classes) - set(split.classes))
    if missing:
        raise DataError(f"the clean data set does not have the classes {', '.join(missing[:3])} of the shifted one")
    index = {name: number for number, name in enumerate(classes)}
    kept = [i for i, target in enumerate(split.targets) if split.classes[int(target)] in index]
    targets = np.array([index[split.classes[int(split.targets[i])]] for i in kept], np.int64)
    return replace(split, images=[split.images[i] for i in kept], classes=classes, targets=targets), images[kept]
