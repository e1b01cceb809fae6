"""A part of a job's input, as it is planned, and an item, as it is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

Kind = Literal["image", "text"]
Form = Literal["folder", "shard", "parquet", "delimited", "json_lines", "lines"]
PART_ROWS = 10_000


class SourceError(ValueError):
    """An input that cannot be embedded; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How inputs are read. Pickled to other machines: plain values only."""

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
        given["path"] = _to_unicode(self.path)
        if self.names:
            given["names"] = [_to_unicode(name) for name in self.names]
        return given

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """The part of which `to_json` made this."""
        values = dict(given)
        values["path"] = _from_unicode(values["path"])
        values["names"] = tuple(map(_from_unicode, values.get("names", ())))
        values["repeated"] = tuple((row, number) for row, number in values.get("repeated", ()))
        return cls(**values)


def _to_unicode(name: str) -> str | dict[str, str]:
    """A name of a file for JSON: in hexadecimal where its bytes are not UTF-8."""
    return name if name.isascii() or _is_unicode(name) else {"hex": os.fsencode(name).hex()}


def _from_unicode(name: str | dict[str, str]) -> str:
    return name if isinstance(name, str) else os.fsdecode(bytes.fromhex(name["hex"]))


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """The name of a file as it is shown: bytes that are not UTF-8 as \\xe9."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
