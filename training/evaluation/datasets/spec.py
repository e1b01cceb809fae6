"""What `--data` names: shards, a folder in one of the known layouts, or KEY=FOLDER for a card of the registry."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from model.data.skipped_samples import SkippedSamples
from model.suggestions import did_you_mean, did_you_mean_path
from training.data.sample import Sample
from training.data.shards import find_shards, read_shards
from training.evaluation.cards import DatasetCard, cards
from training.evaluation.datasets.archives import read_archives
from training.evaluation.datasets.layouts import is_benchmark, read_benchmark, read_folders, splits_of_samples
from training.evaluation.datasets.split import DataError, Split
from training.progress import write_line

log = logging.getLogger(__name__)

SHARDS = re.compile(r"[*?\[{]|\.tar\Z")


@dataclass(frozen=True)
class DatasetSpec:
    """A data set by name, and its folder or shard patterns, relative to `base`."""

    name: str
    paths: Sequence[str]
    base: Path
    card: DatasetCard | None = None

    def read(self, split: str) -> Mapping[str, Split]:
        """Its `split`, train or test, by suffix of the name: shards may hold labels, coarse labels and captions.

        Raises DataError.
        """
        found = self._read(split)
        for skipped in {id(each.skipped): each.skipped for each in found.values()}.values():
            skipped.log_summary(write_line)
        return found

    def _read(self, split: str) -> Mapping[str, Split]:
        if any(SHARDS.search(path) for path in self.paths):
            return self._read_shards()
        folder = self.base / self.paths[0]
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder: name a data set's folder, or shards as 'FOLDER/test-*.tar'"
                f"{did_you_mean_path(self.paths[0], self.base)}"
            )
        if is_benchmark(folder):
            return {"": read_benchmark(folder, split)}
        if self.card is not None and self.card.layout is not None:
            return {"": read_archives(self.card, folder, split)}
        if (folder / split).is_dir():
            return {"": read_folders(folder / split)}
        if split == "test":
            return {"": read_folders(folder)}
        raise DataError(f"{folder} has no folder {split!r}: this task needs pictures to learn from (--train)")

    def _read_shards(self) -> Mapping[str, Split]:
        skipped = SkippedSamples()
        samples = list(read_shards(find_shards(self.paths, self.base), skipped))
        found = splits_of_samples(samples, skipped)
        if not found:
            raise DataError(f"{', '.join(self.paths)}: {_describe_no_split(samples, skipped)}")
        return found


def _describe_no_split(samples: Sequence[Sample], skipped: SkippedSamples) -> str:
    if not samples:
        return f"no usable sample: skipped {skipped.with_examples()}"
    if len(labels := {sample.annotation.label for sample in samples}) == 1 and (label := labels.pop()):
        return f"all samples have the one label {label!r}: there is nothing to tell apart"
    return f"fewer than half of its samples have a label or a caption; skipped {skipped}"


def parse_dataset(argument: str, base: Path) -> DatasetSpec:
    """Parse a value of `--data`: KEY=PATH, or a path alone whose last part may be the key of a card.

    Raises DataError.
    """
    key, equals, path = argument.partition("=")
    if not equals:
        key, path = "", argument
    if not path:
        raise DataError(f"{argument!r} names no place: write KEY=FOLDER")
    card = cards().get(key or _card_key(path))
    if key and card is None and (near := did_you_mean(key, cards(), cutoff=0.75)):
        log.warning("%s is no key of `python -m training datasets`, so it is measured as a set of yours: %s", key, near)
    return DatasetSpec(key or (card.key if card else dataset_name(path)), (path,), base, card)


def parse_datasets(arguments: Sequence[str], base: Path) -> list[DatasetSpec]:
    """Parse several, giving each a name of its own: the second of one name is numbered, with a warning.

    Raises DataError.
    """
    found: dict[str, DatasetSpec] = {}
    for argument in arguments:
        spec = parse_dataset(argument, base)
        numbers = (f"{spec.name}-{number}" for number in count(2))
        name = spec.name if spec.name not in found else next(name for name in numbers if name not in found)
        if name != spec.name:
            log.warning("%s is called %s here, since there is another %s", argument, name, spec.name)
        found[name] = replace(spec, name=name)
    return list(found.values())


def dataset_name(path: str) -> str:
    """A path or pattern as a name that is no path: `../own/test` is own-test, `shards/test-*.tar` shards-test."""
    parts = [part for part in Path(path.removesuffix(".tar")).parts if part.strip("./")]
    name = re.sub(r"[^\w.]+", "-", "-".join(parts))
    return re.sub(r"-[-.]*-|-\.+", "-", name).strip("-.") or "data"


def _card_key(path: str) -> str:
    """CLIP_benchmark's folders are named wds_KEY, some with their origin before the key, as in wds_vtab-cifar10."""
    return re.sub(r"^(wds_)?(vtab-|vtab_)?", "", Path(path).name)
