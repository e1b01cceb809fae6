"""Keys that come again, found among any number of them in bounded memory."""

from __future__ import annotations

import errno
import sqlite3
from hashlib import blake2b

_CACHE_KIB = 32 * 1024  # of the database; what is more lies in a file that ends with it


class KeyRegister:
    """Says of each key how often it came before, by hashes in a temporary database.

    `missing` counts rows that have none, though their table has a column of keys. Raises OSError for a full disk.

    Of 10^8 different keys, some two are taken for the same in one of 4,000 jobs: one of them has a number then.
    """

    def __init__(self) -> None:
        self.missing = 0
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE keys (hash INTEGER PRIMARY KEY, number INTEGER)")
        self._database.execute("BEGIN")

    def number(self, key: str) -> int:
        """0 for a key that is new; else the number, from 2, with which it is (`numbered`)."""
        try:
            return self._number(key)
        except sqlite3.Error as error:
            raise OSError(errno.ENOSPC, f"keys cannot be noted among temporary files ({error})") from error

    def _number(self, key: str) -> int:
        if self._is_new(key):
            return 0
        [(last,)] = self._database.execute("SELECT number FROM keys WHERE hash = ?", (_hash(key),))
        number = int(last) + 1
        while not self._is_new(numbered(key, number)):
            number += 1
        self._database.execute("UPDATE keys SET number = ? WHERE hash = ?", (number, _hash(key)))
        return number

    def _is_new(self, key: str) -> bool:
        return self._database.execute("INSERT OR IGNORE INTO keys VALUES (?, 1)", (_hash(key),)).rowcount == 1


def numbered(key: str, number: int) -> str:
    """The key of the second item that has it: `KEY#2`."""
    return f"{key}#{number}" if number else key


def _hash(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), signed=True)
