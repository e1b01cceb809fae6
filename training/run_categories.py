"""The categories of a run: chosen before its network is built, kept in its folder, and the same in every process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.bundle import Bundle
from model.tokenizers.categories import Category, CategoryTokenizer
from training.categories.nouns import NounFinder
from training.categories.vocabulary import Vocabulary, read_vocabulary
from training.categories.wordnet import open_wordnet
from training.config import ConfigError, TrainConfig
from training.data.item_categories import ItemCategories, TaggedSamples
from training.data.opened_sources import OpenedSources
from training.run_folder import CATEGORIES


@dataclass(frozen=True)
class RunCategories:
    """The vocabulary of a run, and which of its categories each sample has."""

    vocabulary: Vocabulary
    of_samples: ItemCategories


def choose_categories(config: TrainConfig, base: Path, run: Path | None = None) -> RunCategories | None:
    """Those of the start, of the file that is named, or of the frequent nouns of the data; None for other objectives.

    Raises ConfigError where `run` began with others, and ShardError as `TrainingSet` does.
    """
    settings = config.objective.categories
    if config.objective.kind != "categories":
        return None
    finder = NounFinder(open_wordnet(Path(settings.wordnet)))
    samples = TaggedSamples(OpenedSources(config.data, base), finder)
    if config.start:
        vocabulary = samples.counted(_of_bundle(Path(config.start), settings.vocabulary))
    elif settings.vocabulary:
        vocabulary = samples.counted(read_vocabulary(Path(settings.vocabulary)).categories)
    else:
        vocabulary = samples.vocabulary(settings.min_count, settings.max_categories)
    if run is not None and (run / CATEGORIES).exists():
        _require_same(run / CATEGORIES, read_vocabulary(run / CATEGORIES), vocabulary)
    return RunCategories(vocabulary, samples.categories(vocabulary))


def stored_vocabulary(config: TrainConfig, run: Path) -> Vocabulary | None:
    """The vocabulary in the folder of a run; None for other objectives. Raises ConfigError."""
    return read_vocabulary(run / CATEGORIES) if config.objective.kind == "categories" else None


def _of_bundle(start: Path, named: str | None) -> tuple[Category, ...]:
    tokenizer = Bundle.load(start).tokenizer()
    if not isinstance(tokenizer, CategoryTokenizer):
        raise ConfigError(
            f"start: {start} has a text tower and no categories: begin objective: categories with a preset as `model`"
        )
    if named and read_vocabulary(Path(named)).categories != tokenizer.categories:
        raise ConfigError(
            f"objective.categories.vocabulary: {start} was trained with {len(tokenizer.categories):,} categories of "
            f"its own, and {named} has others: leave it away"
        )
    return tokenizer.categories


def _require_same(file: Path, stored: Vocabulary, now: Vocabulary) -> None:
    """Raise ConfigError that says how the categories differ from those that the run began with."""
    if stored.categories == now.categories:
        return
    lost, new = sorted({*stored.synsets} - {*now.synsets}), sorted({*now.synsets} - {*stored.synsets})
    parts = [
        f"{len(synsets):,} {what}, such as {synsets[0]}"
        for synsets, what in ((lost, "are gone"), (new, "are new"))
        if synsets
    ]
    raise ConfigError(
        f"{file} has the {len(stored):,} categories that this run began with, and the pictures and texts now give "
        f"{len(now):,}: {'; '.join(parts) or 'their order or names differ'}. Put the data back as they were, or name "
        "another --output"
    )
