"""The categories of a run: the synsets that are frequent in its texts, the most frequent first, and their file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.category_config import MAX_CATEGORIES
from model.files import write_atomically
from model.tokenizers.categories import Category, CategoryTokenizer
from model.tokenizers.clip import TokenizerError
from training.config import ConfigError

MAX_RARE = 20  # synsets that were too rare, of which a person is told
MAX_BYTES = 64 * 2**20  # of a file: WordNet's 82,115 noun synsets have room for 800 bytes each
Count = Annotated[int, Field(ge=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    synset: str
    names: tuple[str, ...]
    count: Count


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    samples: Count
    dropped: Count
    rare: Annotated[dict[str, Count], Field(max_length=MAX_RARE)] = {}
    categories: Annotated[list[_Entry], Field(min_length=1, max_length=MAX_CATEGORIES)]


@dataclass(frozen=True)
class Vocabulary:
    """Categories in the order of their ids, and in how many of so many `samples` each occurs."""

    categories: tuple[Category, ...]
    counts: tuple[int, ...]
    samples: int  # with at least one synset, in the vocabulary or not
    dropped: int  # synsets that occurred too seldom
    rare: Mapping[str, int] = field(default_factory=dict)  # the most frequent of those, and in how many samples

    def __len__(self) -> int:
        return len(self.categories)

    @property
    def synsets(self) -> tuple[str, ...]:
        """The names of the synsets, in order."""
        return tuple(category.synset for category in self.categories)

    @property
    def mean_frequency(self) -> float:
        """The share of samples that have a category, meaned over categories."""
        return sum(self.counts) / max(1, self.samples * len(self))

    def tokenizer(self) -> CategoryTokenizer:
        """The tokenizer that knows the names of the categories."""
        return CategoryTokenizer(self.categories)

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        entries = [
            {"synset": category.synset, "names": category.names, "count": count}
            for category, count in zip(self.categories, self.counts, strict=True)
        ]
        content = {
            "samples": self.samples,
            "dropped": self.dropped,
            "rare": dict(self.rare),
            "categories": entries,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(file) as draft:
            draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_vocabulary(file: Path) -> Vocabulary:
    """What `write` wrote. Raises ConfigError naming the file and what is wrong with it."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file} is no vocabulary: it has more than {MAX_BYTES >> 20} MiB")
        content = _File.model_validate_json(file.read_text("utf-8"))
        categories = tuple(Category(entry.synset, entry.names) for entry in content.categories)
        CategoryTokenizer(categories)
    except OSError as error:
        raise ConfigError(f"objective.categories.vocabulary: {file} cannot be read: {error}") from error
    except (ValidationError, UnicodeDecodeError, TokenizerError) as error:
        raise ConfigError(
            f"objective.categories.vocabulary: {file} is no vocabulary as `python -m training categories --output` "
            f"writes it: {error}"
        ) from error
    counts = tuple(entry.count for entry in content.categories)
    return Vocabulary(categories, counts, content.samples, content.dropped, content.rare)


def build_vocabulary(
    counts: Mapping[str, int], lemmas: Mapping[str, Counter[str]], samples: int, min_count: int, max_categories: int
) -> Vocabulary:
    """The synsets that at least `min_count` samples have, at most so many, by frequency and then by name.

    `counts` are samples by synset, and `lemmas` how often each was said for a synset: what it is called is what it was
    said by. Raises ConfigError where none is frequent enough.
    """
    ordered = sorted(counts, key=lambda synset: (-counts[synset], synset))
    kept = [synset for synset in ordered if counts[synset] >= min_count][:max_categories]
    if not kept:
        most = max(counts.values(), default=0)
        raise ConfigError(
            f"objective.categories.min_count: no noun of the texts is said of {min_count} training pictures, the most "
            f"frequent of {len(counts):,} of {most}: set it lower, or give the pictures captions or labels"
        )
    rare = {synset: counts[synset] for synset in ordered[len(kept) :][:MAX_RARE]}
    return Vocabulary(_named(kept, lemmas), tuple(counts[s] for s in kept), samples, len(counts) - len(kept), rare)


def _named(synsets: Sequence[str], lemmas: Mapping[str, Counter[str]]) -> tuple[Category, ...]:
    """Categories with the lemmas that they were said by, the most frequent first; a lemma names one category only."""
    taken: set[str] = set()
    categories = []
    for synset in synsets:
        said = sorted(lemmas[synset].items(), key=lambda pair: (-pair[1], pair[0]))
        names = [name for lemma, _ in said if (name := lemma.replace("_", " ")) not in taken]
        taken.update(names)
        categories.append(Category(synset, tuple(names) or (synset,)))
    return tuple(categories)


def describe_vocabulary(vocabulary: Vocabulary, *, shown: int = 20) -> str:
    """A table of the most frequent categories, and what was left out, as people read it."""
    lines = [
        f"{len(vocabulary):,} {'category' if len(vocabulary) == 1 else 'categories'} of "
        f"{vocabulary.samples:,} pictures with a noun; "
        f"{vocabulary.dropped:,} synsets are too rare to be one",
        "",
        "| category | synset | pictures |",
        "| --- | --- | --- |",
    ]
    for category, count in list(zip(vocabulary.categories, vocabulary.counts, strict=True))[:shown]:
        lines.append(f"| {', '.join(category.names[:4])} | {category.synset} | {count:,} |")
    if len(vocabulary) > shown:
        lines.append(f"| and {len(vocabulary) - shown:,} more | | |")
    if vocabulary.rare:
        lines += ["", f"too rare: {', '.join(f'{synset} {count}' for synset, count in vocabulary.rare.items())}"]
    return "\n".join(lines)
