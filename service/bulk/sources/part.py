"""A part of a job's input, as it is planned, and an item, as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

Kind = Literal["image", "text"]
Form = Literal["folder", "shard", "parquet", "delimited", "json_lines", "lines"]
PART_ROWS = 10_000
_NAMES = {"path", "name", "column", "key_column"}  # of a part that a file or a table gives


class SourceError(ValueError):
    """An input that cannot be embedded; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How inputs are read. Raises SourceError for what cannot be. Pickled to other machines: plain values only."""

    kind: Kind | None = None  # None: what the first input seems to hold
    column: str | None = None  # of tables: the pictures or texts
    key_column: str | None = None
    root: Path | None = None  # that paths in tables start from and stay in; None: the folder of the table
    encoding: str | None = None  # of texts and tables without a byte order mark; None: UTF-8
    delimiter: str | None = None  # of CSV; None: what fits the first line
    part_rows: int = PART_ROWS
    url_hosts: tuple[str, ...] = ()  # the settings of the service of these names
    url_networks: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 2**20

    def __post_init__(self) -> None:
        if self.encoding is not None and not _is_encoding(self.encoding):
            raise SourceError(f"--encoding: {self.encoding!r} is no encoding of texts: cp1252 is one, or utf-16")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise SourceError(
                f"--delimiter: {self.delimiter!r} is no single character that separates cells; a shell gives a tab by "
                "$'\\t'"
            )


@dataclass(frozen=True, slots=True)
class Item:
    """One row of the output: an encoded picture as it is, or a text; `error` says why there is none."""

    key: str
    source: str
    payload: bytes | str | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A run of `rows` items that can be read without what precedes them, on any machine that has the same files."""

    form: Form
    kind: Kind
    path: str  # of the file, or of the folder that `names` are in
    rows: int
    name: str = ""  # of the file, as keys and sources have it
    first: int = 0  # number of its first row, line or sample in the file
    offset: int = 0  # byte at which it begins
    group: int = 0  # of Parquet: the row group that `first` is in
    names: tuple[str, ...] = ()
    column: str = ""
    key_column: str = ""
    size: int = 0  # of the file, in bytes, when it was planned
    mtime_ns: int = 0
    repeated: tuple[tuple[int, int], ...] = ()  # items whose key came before, and the number that is added to it

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes: values of JSON, without those that are not used."""
        given = {name: value for name, value in asdict(self).items() if value or name == "rows"}
        for name in _NAMES & given.keys():
            given[name] = _to_unicode(given[name])
        if self.names:
            given["names"] = [_to_unicode(name) for name in self.names]
        return given

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The part of which `to_json` made this."""
        values = dict(given)
        for name in _NAMES & values.keys():
            values[name] = _from_unicode(values[name])
        values["names"] = tuple(map(_from_unicode, values.get("names", ())))
        values["repeated"] = tuple((row, number) for row, number in values.get("repeated", ()))
        return cls(**values)


def _is_encoding(name: str) -> bool:
    try:
        return "a\n".encode(name).decode(name, "replace") == "a\n"
    except (LookupError, ValueError):
        return False


def _to_unicode(name: str) -> str | dict[str, str]:
    """A name for JSON: in hexadecimal where it is no text, as a file's of other bytes, or half a character."""
    return name if name.isascii() or _is_unicode(name) else {"hex": name.encode("utf-8", "surrogatepass").hex()}


def _from_unicode(name: str | dict[str, str]) -> str:
    return name if isinstance(name, str) else bytes.fromhex(name["hex"]).decode("utf-8", "surrogatepass")


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def utf8_name(name: str) -> str:
    """A name as it is shown: bytes of a file's that are not UTF-8 as \\xe9, halves of characters as \\ud800."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
