"""Which column of a table holds the pictures or the texts, and which one the keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from model.data.column_names import CAPTION_NAMES, IMAGE_NAMES, normalized
from model.suggestions import did_you_mean
from service.bulk.sources.cells import is_url
from service.bulk.sources.part import Kind, SourceError, SourceOptions

LISTED = 30  # columns in a message
URL_NAMES = ("url", "image_url", "img_url", "urls", "uri", "link")
VAGUE_NAMES = ("image_id", "file")  # of which the others come first: with an address beside it, it is no path
# img2dataset's Parquet has the picture in `jpg` and where it came from in `url`.
PICTURE_NAMES = (*(name for name in IMAGE_NAMES if name not in VAGUE_NAMES), *URL_NAMES, *VAGUE_NAMES)
TEXT_NAMES = tuple(dict.fromkeys(("text", "caption", "txt", "sentence", *CAPTION_NAMES)))
KEY_NAMES = ("key", "__key__", "uid", "id")


class Columns(NamedTuple):
    """What is read of a table; `note` says it in words. Without a `key`, an item is called by the number of its row."""

    kind: Kind
    value: str
    key: str
    note: str


def known(names: Sequence[str]) -> int:
    """How many names of columns are known, which tells by what they are separated."""
    return sum(normalized(name) in (*PICTURE_NAMES, *TEXT_NAMES, *KEY_NAMES) for name in names)


def choose_columns(
    table: str, names: Sequence[str], options: SourceOptions, kind: Kind | None, binary: Collection[str] = ()
) -> Columns:
    """The columns that were asked for, else those of known names, of a job of this kind or of one not known yet.

    `binary` are those that hold the bytes of pictures. Raises SourceError.
    """
    for asked, option in ((options.column, "--column"), (options.key_column, "--key-column")):
        if asked is not None and asked not in names:
            near = did_you_mean(asked, names)
            hint = f": {near}" if near else ""
            raise SourceError(f"{option}: {table} has no column {asked!r}; it has {listed(names)}{hint}")
    by_name = {normalized(name): name for name in reversed(names)}
    pictures = [by_name[name] for name in PICTURE_NAMES if name in by_name]
    pictures = [*(name for name in pictures if name in binary), *(name for name in pictures if name not in binary)]
    pictures += [name for name in binary if name not in pictures]
    texts = [by_name[name] for name in TEXT_NAMES if name in by_name and by_name[name] not in binary]
    key = options.key_column or next((by_name[name] for name in KEY_NAMES if name in by_name), "")
    if options.column is not None:
        kind = kind or ("image" if options.column in pictures else "text" if options.column in texts else None)
        if kind is None:
            raise SourceError(f"--column {options.column} of {table}: does it hold pictures or texts? Say --kind")
        return _chosen(kind, options.column, key, [])
    kind = kind or ("image" if pictures else "text")
    found = pictures if kind == "image" else texts
    if not found and len(rest := [name for name in names if name != key]) == 1 and options.kind:
        found = rest
    if not found:
        what = "pictures, or the paths or URLs of some" if kind == "image" else "texts"
        raise SourceError(f"{table}: which column holds {what}? Say it by --column; it has {listed(names)}")
    return _chosen(kind, found[0], key, [] if options.kind or kind == "text" else texts)


def _chosen(kind: Kind, value: str, key: str, texts: Sequence[str]) -> Columns:
    what = "pictures" if kind == "image" else "texts"
    keys = f"keys from `{key}`" if key else "keys are row numbers"
    other = f"; `{texts[0]}` holds texts, which --kind text embeds" if texts else ""
    return Columns(kind, value, key, f"{what} from `{value}`, {keys}{other}")


def refuse_urls(table: str, kind: Kind, first: object, options: SourceOptions) -> None:
    """Raise SourceError for a table that begins with a URL where none is fetched: a million errors would be late."""
    if kind == "image" and is_url(first) and not options.url_hosts:
        raise SourceError(
            f"{table} holds URLs: name the hosts that pictures may be fetched from by SIGHTWORD_URL_HOSTS, such as "
            "'images.example.com,*.example.org'; of a list of thousands of hosts make shards by img2dataset first"
        )


def listed(names: Sequence[str]) -> str:
    """Names of columns for a message."""
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return (", ".join(name[:80] for name in names[:LISTED]) + more) or "none"
