"""Which columns of a table hold pictures, captions and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.data.column_names import CAPTION_NAMES, IMAGE_NAMES, LABEL_NAMES, OTHER_NAMES, normalized
from model.data.files import IMAGE_SUFFIXES, suffix_of
from model.suggestions import did_you_mean
from training.config import Columns
from training.data.shards import ShardError

LISTED = 30  # columns in a message


@dataclass(frozen=True)
class ColumnMapping:
    """Columns by what they hold; `others` are label, tags, coarse and description."""

    image: str
    captions: Sequence[str]
    others: dict[str, str]
    unread: Sequence[str]

    @property
    def texts(self) -> list[str]:
        """The columns of texts, each once."""
        return list(dict.fromkeys((*self.captions, *self.others.values())))

    @property
    def names(self) -> list[str]:
        """All columns that are read, each once."""
        return list(dict.fromkeys((*self.texts, self.image)))

    def __str__(self) -> str:
        parts = [f"pictures from `{self.image}`"]
        parts += [f"captions from {' and '.join(f'`{name}`' for name in self.captions)}"] * bool(self.captions)
        parts += [f"{kind} from `{name}`" for kind, name in self.others.items()]
        unread = f"; not read: {_list(self.unread)}" if self.unread else ""
        return f"{', '.join(parts)}{unread}"


def count_known(names: Sequence[str]) -> int:
    """How many names of columns are known."""
    known = {*IMAGE_NAMES, *CAPTION_NAMES, *LABEL_NAMES, *OTHER_NAMES}
    return sum(normalized(name) in known for name in names)


def choose_columns(
    file: Path, names: Sequence[str], columns: Columns, caption_names: Sequence[str] = ()
) -> ColumnMapping:
    """The columns that were asked for, or those of known names, which for captions also `caption_names` are.

    Raises ShardError.
    """
    for name in (columns.picture, *columns.captions, columns.label):
        if name is not None and name not in names:
            near = did_you_mean(name, names)
            raise ShardError(f"{file} has no column {name!r}; it has {_list(names)}" + (f": {near}" if near else ""))
    by_name = {normalized(name): name for name in reversed(names)}
    image = columns.picture or next((by_name[name] for name in IMAGE_NAMES if name in by_name), None)
    known = dict.fromkeys((*CAPTION_NAMES, *map(normalized, caption_names)))
    captions = columns.captions or [by_name[name] for name in known if name in by_name]
    label = columns.label or next((by_name[name] for name in LABEL_NAMES if name in by_name), None)
    others = {} if label is None else {"label": label}
    others |= {name: by_name[name] for name in OTHER_NAMES if name in by_name and by_name[name] not in captions}
    if image is None or not (captions or others):
        raise ShardError(
            f"{file}: which columns hold the picture and its caption or label? Say it by "
            f"`columns: {{picture: NAME, captions: [NAME], label: NAME}}`; it has {_list(names)}{_hint(names, by_name)}"
        )
    captions = [name for name in captions if name != image]
    chosen = ColumnMapping(
        image, captions, others, [name for name in names if name not in (image, *captions, *others.values())]
    )
    if twice := next((name for name in chosen.names if list(names).count(name) > 1), None):
        raise ShardError(f"{file} has several columns called {twice!r}: give each a name of its own")
    return chosen


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(name[:80] for name in names[:LISTED]) + more


def _hint(names: Sequence[str], by_name: dict[str, str]) -> str:
    if any(suffix_of(name.partition("#")[0]) in IMAGE_SUFFIXES for name in names):
        return ". Its first line looks like a row: a table begins with a line of the names of its columns"
    if "url" in by_name:
        return ". Addresses are not downloaded: img2dataset does it, and its tar files are named by `shards`"
    return ""
