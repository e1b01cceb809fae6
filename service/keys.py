"""API keys: from the settings and from a file, kept as digests only, compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from model.files import NotRegularError, read_regular_file
from service.settings import PREFIX, Settings, SettingsError
from service.threads import SerialThread

log = logging.getLogger(__name__)
MAX_KEYS = 1000  # each is compared with what a client sends, which takes 0.1 ms then
MAX_FILE_BYTES = 2**20
READ_S = 5.0  # for a file system that does not answer
SHORT_CHARACTERS = 16  # of random hexadecimal digits these are 64 bits; fewer can be guessed
EMPTY = "a key is empty; leave the setting out to have none"
_ADVICE = "make one with: openssl rand -hex 32"


class Keys:
    """Who may call: clients, and the operator, whose key opens everything."""

    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError, which names the setting and never shows a key."""
        if settings.api_keys_file == Path():  # an empty variable
            raise _wrong("api_keys_file", EMPTY)
        self.required = settings.api_keys is not None or settings.api_keys_file is not None
        self.problem: str | None = None  # why the last reload left the keys from before; no path of this machine
        self._file = settings.api_keys_file
        self._thread = SerialThread("keys")  # one reading after the other, so that the last one to begin decides
        self._given: tuple[bytes, ...] = ()
        self._admin: tuple[bytes, ...] = ()
        if settings.api_keys is not None:
            self._given = _digests("api_keys", settings.api_keys.get_secret_value().split(","))
        if settings.admin_key is not None:
            self._admin = _digests("admin_key", [settings.admin_key.get_secret_value()])
        self._clients = self._read() if self._file is None else self._read_in_time()

    @property
    def has_admin(self) -> bool:
        """Whether /admin can be opened at all."""
        return bool(self._admin)

    async def reload(self) -> None:
        """Read the file again; where something is wrong with it, keep the keys from before, and say so in the log.

        When this is done, a key that the file had no more when it was called is refused, whoever reloads beside it.
        """
        if self._file is None:
            return
        try:
            async with asyncio.timeout(READ_S):
                await asyncio.wrap_future(self._thread.submit(self._renew))
        except TimeoutError:
            self._keep(f"{self._file} was not read within {READ_S:g} s")

    def _read_in_time(self) -> tuple[bytes, ...]:
        try:
            return self._thread.submit(self._read).result(READ_S)
        except FutureTimeoutError:
            raise _wrong("api_keys_file", f"{self._file} was not read within {READ_S:g} s") from None

    def _renew(self) -> None:
        try:
            self._clients = self._read()
        except SettingsError as error:
            self._keep(str(error))
        else:
            self.problem = None
            log.info("%d API keys", len(self._clients))

    def _keep(self, why: str) -> None:
        log.error("the API keys are those from before: %s", why)
        self.problem = f"The API keys are those from before: {why.replace(str(self._file), 'the file')}."

    def is_admin(self, key: bytes) -> bool:
        """Whether this is the operator's key."""
        return _among(self._admin, key)

    def is_client(self, key: bytes) -> bool:
        """Whether this key opens what is not /admin."""
        return _among((*self._clients, *self._admin), key)

    def _read(self) -> tuple[bytes, ...]:
        from_file = _digests("api_keys_file", _lines(self._file)) if self._file is not None else ()
        clients = tuple(dict.fromkeys((*self._given, *from_file)))
        if len(clients) > MAX_KEYS:
            raise _wrong("api_keys_file", f"more than {MAX_KEYS} keys; put a gateway that knows its clients in front")
        if set(clients) & set(self._admin):
            raise _wrong("admin_key", "is one of the API keys too, so that every client with it could administer")
        return clients


def _among(known: Sequence[bytes], key: bytes) -> bool:
    """Compares with all of them, so that the time does not tell which was close."""
    digest = hashlib.sha256(key).digest()
    found = False
    for each in known:
        found |= hmac.compare_digest(digest, each)
    return found


def _digests(setting: str, keys: Iterable[str]) -> tuple[bytes, ...]:
    stripped = [key.strip() for key in keys]
    if not stripped or "" in stripped:
        raise _wrong(setting, EMPTY)
    if any(not (key.isascii() and key.isprintable()) for key in stripped):
        raise _wrong(setting, f"a key has characters that no header can carry; {_ADVICE}")
    if short := sum(len(key) < SHORT_CHARACTERS for key in stripped):
        log.warning("%s: keys shorter than %d characters: %d; %s", _name(setting), SHORT_CHARACTERS, short, _ADVICE)
    return tuple(hashlib.sha256(key.encode()).digest() for key in stripped)


def _lines(path: Path) -> list[str]:
    try:
        data, _ = read_regular_file(path, MAX_FILE_BYTES, follow_links=True)
    except NotRegularError as error:
        raise _wrong("api_keys_file", f"{path} is no file: {error}") from None
    except OSError as error:
        raise _wrong("api_keys_file", f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _wrong("api_keys_file", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise _wrong("api_keys_file", f"there is no key in {path}")
    for number, line in enumerate(lines, 1):
        if not line.startswith("#") and len(line.split()) > 1:
            raise _wrong("api_keys_file", f"line {number} of {path}: one key a line; comments have their own")
    return keys


def _name(setting: str) -> str:
    return f"{PREFIX}{setting.upper()} (--{setting.replace('_', '-')})"


def _wrong(setting: str, what: str) -> SettingsError:
    return SettingsError(f"{_name(setting)}: {what}")
