"""API keys: read from the settings and from a file, kept as SHA-256 digests, compared in constant time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

from model.files import NotRegularError, read_regular_file
from service.settings import PREFIX, Settings, SettingsError
from service.threads import SerialThread

log = logging.getLogger(__name__)
MAX_KEYS = 1000  # all are compared with the key of a request, which takes 0.1 ms then
MAX_FILE_BYTES = 2**20
READ_TIMEOUT_S = 5.0  # of a file system that does not answer
SHORT_CHARACTERS = 16  # of random hexadecimal digits these are 64 bits; fewer can be guessed
EMPTY = "a key is empty; leave the setting out to have none"
_ADVICE = "make one with: openssl rand -hex 32"


def read_key_file(path: Path) -> list[str]:
    """The keys in a file, one a line; lines that begin with # are comments. Raises SettingsError."""
    try:
        data, _ = read_regular_file(path, MAX_FILE_BYTES, follow_links=True)
    except NotRegularError as error:
        raise _error("api_keys_file", f"{path} is no file: {error}") from None
    except OSError as error:
        raise _error("api_keys_file", f"{path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _error("api_keys_file", f"{path} is larger than {MAX_FILE_BYTES} bytes")
    lines = [line.strip() for line in data.decode("utf-8-sig", "replace").splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise _error("api_keys_file", f"there is no key in {path}")
    for number, line in enumerate(lines, 1):
        if not line.startswith("#") and len(line.split()) > 1:
            raise _error("api_keys_file", f"line {number} of {path}: one key a line; comments have their own")
    return keys


class Keys:
    """The keys of clients, and that of the operator, which opens everything."""

    def __init__(
        self,
        settings: Settings,
        *,
        read_file: Callable[[Path], list[str]] = read_key_file,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        """Raises SettingsError, which names the setting and never shows a key."""
        if settings.api_keys_file == Path():  # an empty variable
            raise _error("api_keys_file", EMPTY)
        self.required = settings.api_keys is not None or settings.api_keys_file is not None
        self.problem: str | None = None  # why the last reload kept the previous keys, without any path of this machine
        self._file, self._read_file, self._read_timeout_s = settings.api_keys_file, read_file, read_timeout_s
        self._thread = SerialThread("keys")  # reloads run one after another, so that the last one to start decides
        self._from_settings: tuple[bytes, ...] = ()
        self._admin_keys: tuple[bytes, ...] = ()
        if settings.api_keys is not None:
            self._from_settings = _digests("api_keys", settings.api_keys.get_secret_value().split(","))
        if settings.admin_key is not None:
            self._admin_keys = _digests("admin_key", [settings.admin_key.get_secret_value()])
        self._client_keys = self._read() if self._file is None else self._read_with_timeout()

    @property
    def has_admin(self) -> bool:
        """Whether there is an operator's key; without one, /admin is closed."""
        return bool(self._admin_keys)

    async def reload(self) -> None:
        """Read the file again; where it cannot be used, keep the previous keys, log why and set `problem`.

        Once this returns, a key that was not in the file when it was called is refused, whatever reloads run beside it.
        """
        if self._file is None:
            return
        try:
            async with asyncio.timeout(self._read_timeout_s):
                await asyncio.wrap_future(self._thread.submit(self._replace_client_keys))
        except TimeoutError:
            self._keep_previous(f"{self._file} was not read within {self._read_timeout_s:g} s")

    def _read_with_timeout(self) -> tuple[bytes, ...]:
        try:
            return self._thread.submit(self._read).result(self._read_timeout_s)
        except FutureTimeoutError:
            raise _error("api_keys_file", f"{self._file} was not read within {self._read_timeout_s:g} s") from None

    def _replace_client_keys(self) -> None:
        try:
            self._client_keys = self._read()
        except SettingsError as error:
            self._keep_previous(str(error))
        else:
            self.problem = None
            log.info("%d API keys", len(self._client_keys))

    def _keep_previous(self, why: str) -> None:
        log.error("the API keys are those from before: %s", why)
        self.problem = f"The API keys are those from before: {why.replace(str(self._file), 'the file')}."

    def is_admin(self, key: bytes) -> bool:
        """Whether that is the operator's key."""
        return _contains(self._admin_keys, key)

    def is_client(self, key: bytes) -> bool:
        """Whether that key opens everything but /admin: any client's, and the operator's."""
        return _contains((*self._client_keys, *self._admin_keys), key)

    def _read(self) -> tuple[bytes, ...]:
        from_file = _digests("api_keys_file", self._read_file(self._file)) if self._file is not None else ()
        clients = tuple(dict.fromkeys((*self._from_settings, *from_file)))
        if len(clients) > MAX_KEYS:
            raise _error("api_keys_file", f"more than {MAX_KEYS} keys; put a gateway that knows its clients in front")
        if set(clients) & set(self._admin_keys):
            raise _error("admin_key", "is one of the API keys too, so that every client with it could administer")
        return clients


def _contains(known: Sequence[bytes], key: bytes) -> bool:
    """Compare with all of them, so that the time taken says nothing about them."""
    digest = hashlib.sha256(key).digest()
    found = False
    for each in known:
        found |= hmac.compare_digest(digest, each)
    return found


def _digests(setting: str, keys: Iterable[str]) -> tuple[bytes, ...]:
    stripped = [key.strip() for key in keys]
    if not stripped or "" in stripped:
        raise _error(setting, EMPTY)
    if any(not (key.isascii() and key.isprintable()) for key in stripped):
        raise _error(setting, f"a key has characters that no header can carry; {_ADVICE}")
    if short := sum(len(key) < SHORT_CHARACTERS for key in stripped):
        log.warning("%s: keys shorter than %d characters: %d; %s", _name(setting), SHORT_CHARACTERS, short, _ADVICE)
    return tuple(hashlib.sha256(key.encode()).digest() for key in stripped)


def _name(setting: str) -> str:
    return f"{PREFIX}{setting.upper()} (--{setting.replace('_', '-')})"


def _error(setting: str, what: str) -> SettingsError:
    return SettingsError(f"{_name(setting)}: {what}")
