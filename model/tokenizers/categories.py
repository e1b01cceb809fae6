"""The tokenizer of a model that knows categories by name: a text is the name of one, or it is unknown.

CatLIP (Mehta et al. 2024, arXiv 2404.15653) learns no language: what it tells of a picture is which WordNet synsets are
in it. The text tower of such a bundle is a table of one row a category, and the only texts are the categories' names.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from model.category_config import MAX_CATEGORIES
from model.tokenizers.clip import Side, TokenizerError, UnknownTextError, pad_rows
from model.tokenizers.near_names import NearNames

KIND: Final = "categories"
PADDING_ID = 0
MAX_CHARACTERS = 64 * 2**20  # of a tokenizer.json: as many categories as may be have room for 600 each
MAX_NAMES = 64  # of one category; WordNet's most is 28
MAX_NAME = 200  # characters
_SHOWN = 100  # characters of an unknown text that its error repeats


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds what cannot be printed")
    return text


_Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)]
_Synset = Annotated[_Name, StringConstraints(pattern=r"^\S+$")]


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True, extra="forbid"))
class Category:
    """A WordNet synset (`dog.n.01`), or another name without spaces, and what it is called; the first name is shown."""

    synset: _Synset
    names: Annotated[tuple[_Name, ...], Field(min_length=1, max_length=MAX_NAMES)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class _File:
    type: Annotated[str, StringConstraints(pattern=rf"^{KIND}$")]
    categories: Annotated[tuple[Category, ...], Field(min_length=1, max_length=MAX_CATEGORIES)]


class CategoryTokenizer:
    """Names of categories to ids: 1 for the first category, in their order; 0 fills rows and is no category."""

    context_length = 1

    def __init__(self, categories: Sequence[Category]) -> None:
        """Raises TokenizerError for no category, or too many, and for two that could not be told apart."""
        self.categories = (*categories,)
        if not 0 < len(self.categories) <= MAX_CATEGORIES:
            raise TokenizerError(f"it has {len(self.categories)} categories: there may be 1 to {MAX_CATEGORIES}")
        self.vocab_size = len(self.categories) + 1
        self.labels = _labels(self.categories)
        own = [*map(_key, self.labels)], [_key(category.synset) for category in self.categories]
        for what, keys in zip(("shown as", "the synset"), own, strict=True):
            [(key, count)] = Counter(keys).most_common(1)
            if not key or count > 1:
                raise TokenizerError(f"{count} categories are {what} {key!r:.100}: each must differ")
        self._ids, self._shared = _names(self.categories)
        # What is shown, then the synset, comes before what is only another name of a category.
        for keys in reversed(own):
            self._ids.update(zip(keys, range(1, self.vocab_size), strict=True))

    @classmethod
    def parse(cls, content: str) -> CategoryTokenizer:
        """The content of a `tokenizer.json` that `save` wrote. Raises TokenizerError."""
        if len(content) > MAX_CHARACTERS:
            raise TokenizerError(f"it has more than {MAX_CHARACTERS >> 20} million characters")
        try:
            file = TypeAdapter(_File).validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise TokenizerError(f"this is no tokenizer.json of categories: {where}: {first['msg']:.300}") from None
        return cls(file.categories)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        categories = [{"synset": each.synset, "names": each.names} for each in self.categories]
        path.write_text(json.dumps({"type": KIND, "categories": categories}, ensure_ascii=False), encoding="utf-8")

    def encode(self, texts: Sequence[str], enough: int | None = None) -> list[list[int]]:
        """The one id of each text: of what is shown for a category, of its synset, or of a name that only it has.

        Letter case, kinds of spaces and underscores make no difference. Raises UnknownTextError for the first text that
        is none of these.
        """
        if isinstance(texts, str):
            raise TokenizerError("encode takes a list of texts: put the single text into a list")
        return [[self._id(text)] for text in texts]

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that no category is called."""
        return [text for text in texts if _key(text) not in self._ids]

    def truncate(self, ids: list[int], side: Side = "end") -> list[int]:
        """A row of one id is never too long."""
        return ids

    def pad(self, rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        """int64 [batch, 1]."""
        return pad_rows(rows, self.context_length, PADDING_ID)

    def _id(self, text: str) -> int:
        key = _key(text)
        found = self._ids.get(key)
        if found is None:
            raise UnknownTextError(self._why_unknown(text, key))
        return found

    def _why_unknown(self, text: str, key: str) -> str:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        if key in self._shared:
            near = " or ".join(repr(self.labels[index - 1]) for index in self._shared[key][:3])
            return f"{shown!r} is a name of {len(self._shared[key])} of this model's categories: say which, as {near}"
        count = len(self.labels)
        nearest = dict.fromkeys(repr(self.labels[self._ids[name] - 1]) for name in self._near.find(key, 8))
        return (
            f"this model knows its {count:,} categor{'y' if count == 1 else 'ies'} by name only, and {shown!r} is "
            + (f"none of them: did you mean {' or '.join([*nearest][:3])}?" if nearest else "not like any of them")
        )

    @cached_property
    def _near(self) -> NearNames:
        return NearNames([*self._ids])


def _key(text: str) -> str:
    """What of a text makes a difference."""
    return " ".join(unicodedata.normalize("NFC", text).replace("_", " ").casefold().split())


def _labels(categories: Sequence[Category]) -> tuple[str, ...]:
    """The first name of each; where several have the same one, with the synset behind it."""
    times = Counter(_key(category.names[0]) for category in categories)

    def label(category: Category) -> str:
        name = " ".join(category.names[0].split())
        return name if times[_key(name)] == 1 else f"{name} ({category.synset})"

    return tuple(map(label, categories))


def _names(categories: Sequence[Category]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Ids by names that one category has, and those of several categories by the names that they share."""
    owners: dict[str, list[int]] = {}
    for key, index in _each_name(categories):
        owners.setdefault(key, []).append(index)
    shared = {key: ids for key, ids in owners.items() if len(ids) > 1}
    return {key: ids[0] for key, ids in owners.items() if len(ids) == 1}, shared


def _each_name(categories: Sequence[Category]) -> Iterator[tuple[str, int]]:
    for index, category in enumerate(categories, start=1):
        for key in dict.fromkeys(map(_key, category.names)):
            yield key, index
