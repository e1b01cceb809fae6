"""The configuration of what CatLIP has for a text tower."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from model.frozen import Frozen

MAX_CATEGORIES = 100_000  # WordNet has 82,115 synsets of nouns


class CategoriesConfig(Frozen):
    """A table of one row a category in place of a text tower, and a row before them that only fills up batches.

    A text is the name of a category, which is one token.
    """

    kind: Literal["categories"] = "categories"
    categories: int = Field(ge=1, le=MAX_CATEGORIES)

    @property
    def vocab_size(self) -> int:
        """Rows of the table."""
        return self.categories + 1

    @property
    def context_length(self) -> int:
        """Tokens of a text."""
        return 1

    @property
    def fixed_length(self) -> bool:
        """Whether all rows of tokens are of the context length."""
        return True

    @property
    def pad_id(self) -> int:
        """The row that is no category."""
        return 0
