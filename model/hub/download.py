"""One file over HTTP: what had arrived before is not fetched again, and nothing that is not as published stays."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import httpx2

from model import __version__
from model.hub.errors import HubError, RefusedError, TransientError

WAITS_S = (1.0, 2.0, 4.0, 8.0)  # before each further try
MAX_BYTES = 64 * 2**30  # where nobody says how large a file is
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_MEANINGS = {
    401: "it is private, has terms to accept, or is not there. Accept the terms on its page, and set HF_TOKEN to a "
    "token that may read it",
    403: "permission is missing. Accept the terms on its page, and set HF_TOKEN to a token that may read it",
    404: "it is not there. Check the name and the revision",
}
_BYTES = re.compile(r"[0-9]{1,15}")
_RANGE = re.compile(rf"bytes (?:({_BYTES.pattern})-{_BYTES.pattern}|\*)/({_BYTES.pattern}|\*)")
SLOWEST_BYTES, SLOWEST_S = 64 * 1024, 120.0  # what must come at least, and in which time
LISTING_S = 120.0
T = TypeVar("T")


class Watcher(Protocol):
    """Whom a download tells how it goes."""

    def progress(self, file: str, done: int, total: int | None) -> None:
        """Bytes of a file that are here, of all it has."""

    def note(self, message: str) -> None:
        """Something that a person wants to know."""


@dataclass(frozen=True)
class Remote:
    """A file, and what is published of its content."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None  # of the blob: git's own hash of small files


def connect(token: str | None = None) -> httpx2.Client:
    """A client that sends `token` to the host it asks and to none that it is redirected to.

    Raises HubError for a proxy, named in the environment, that cannot be used.
    """
    headers = {"User-Agent": f"sightword/{__version__}", "Accept-Encoding": "identity"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        return httpx2.Client(headers=headers, follow_redirects=True, max_redirects=5, timeout=30.0)
    except (ImportError, ValueError, httpx2.InvalidURL):  # whose texts may hold the proxy's password
        raise HubError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: it should be an address such as "
            "http://host:port, and not one of SOCKS"
        ) from None


def fetch(client: httpx2.Client, remote: Remote, folder: Path, watcher: Watcher) -> Path:
    """Bring a file into `folder`, which is written whole or not at all, and going on where an earlier try ended.

    Raises HubError where it cannot be had or its content is not the published one, which is then removed.
    """
    target, partial = folder / remote.name, folder / f"{remote.name}.partial"
    if target.exists():
        if _difference(target, remote) is None:
            return target
        target.unlink()
    with _room(folder):
        folder.mkdir(parents=True, exist_ok=True)
        begun = partial.exists()
        difference = _bring(client, remote, partial, watcher)
        if difference is not None and begun:
            watcher.note(f"{remote.name} {difference}: what had arrived before is of no use, beginning anew")
            difference = _bring(client, remote, partial, watcher)
        if difference is not None:
            raise HubError(
                f"{remote.name} from {httpx2.URL(remote.url).host} {difference}. It was removed; run the command again "
                "to fetch it anew"
            )
        partial.replace(target)
    return target


def persist(action: Callable[[], T], watcher: Watcher, done: Callable[[], int] = lambda: 0) -> T:
    """Try again what may work the next time; as long as `done` grows, the tries before do not count."""
    tries = 0
    while True:
        before = done()
        try:
            return action()
        except TransientError as error:
            tries = 0 if done() > before else tries
            if tries == len(WAITS_S):
                raise RefusedError(
                    f"{error}, {tries + 1} times in a row. What has arrived is kept: run the command again to go on"
                ) from None
            watcher.note(f"{error}; trying again in {WAITS_S[tries]:g} s")
            time.sleep(WAITS_S[tries])
            tries += 1


@contextmanager
def asking(
    client: httpx2.Client, url: str, name: str, headers: dict[str, str] | None = None
) -> Iterator[httpx2.Response]:
    """The answer to a GET, its body not read yet. Raises TransientError or HubError; neither shows a query."""
    try:
        with client.stream("GET", url, headers=headers) as response:
            status, host = response.status_code, response.url.host
            if status in _BUSY:
                raise TransientError(f"{host} answered {status} for {name}")
            if status not in (200, 206, 416):
                raise RefusedError(f"{host} answered {status} for {name}: {_MEANINGS.get(status, 'that is no file')}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise HubError(f"{host} sent {name} compressed, unasked")
            yield response
    except httpx2.LocalProtocolError:  # its text repeats headers, of which one is the token
        raise HubError(f"{name} could not be asked for: the request had a header that cannot be sent") from None
    except httpx2.TransportError as error:
        host = httpx2.URL(url).host
        raise TransientError(f"{name} could not be had from {host} ({type(error).__name__}: {error})") from error
    except (httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
        raise RefusedError(f"{name} could not be had: {error}") from error


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bring(client: httpx2.Client, remote: Remote, partial: Path, watcher: Watcher) -> str | None:
    """Receive the file, or the rest of it: what is wrong with it, and then it is removed."""
    persist(lambda: _receive(client, remote, partial, watcher), watcher, lambda: _size(partial))
    partial.touch()  # a file of no bytes
    difference = _difference(partial, remote)
    if difference is not None:
        partial.unlink(missing_ok=True)
    return difference


def _receive(client: httpx2.Client, remote: Remote, partial: Path, watcher: Watcher) -> None:
    # No If-Range: the address is of one commit or one hash, and what was put together is held against the hash.
    done = _size(partial)
    if remote.size is not None and done >= remote.size:
        return
    headers = {"Range": f"bytes={done}-"} if done else None
    with asking(client, remote.url, remote.name, headers) as response:
        begins, total = _extent(response)
        if response.status_code == 416 and total == done:
            return
        if (begins != done and begins != 0) or response.status_code == 416:
            partial.unlink(missing_ok=True)
            raise TransientError(f"{response.url.host} did not go on with {remote.name} where it ended")
        if None not in (total, remote.size) and total != remote.size:
            partial.unlink(missing_ok=True)
            raise HubError(f"{remote.name} is said to have {remote.size} bytes, but {response.url.host} has {total}")
        _write(response, partial, begins, remote, total if remote.size is None else remote.size, watcher)


def _extent(response: httpx2.Response) -> tuple[int, int | None]:
    """Where the body begins in the file, and how long the file is, as far as that is said."""
    if response.status_code == 200:
        length = response.headers.get("content-length")
        if length is not None and not _BYTES.fullmatch(length):
            raise HubError(f"{response.url.host} sent a Content-Length that is no number of bytes")
        return 0, int(length) if length is not None else None
    match = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        return -1, None
    return int(match[1] or -1), int(match[2]) if match[2] != "*" else None


def _write(
    response: httpx2.Response, partial: Path, done: int, remote: Remote, total: int | None, watcher: Watcher
) -> None:
    if total is not None and total - done > (free := shutil.disk_usage(partial.parent).free):
        raise HubError(
            f"{partial.parent} has {free / 1e9:.1f} GB free, and {remote.name} needs {(total - done) / 1e9:.1f} GB: "
            "make room, or set SIGHTWORD_HOME to a folder on another disk"
        )
    with partial.open("ab" if done else "wb", buffering=0) as file:
        looked, before = time.monotonic(), done
        for piece in response.iter_raw():
            done += len(piece)
            if time.monotonic() - looked > SLOWEST_S:
                if done - before < SLOWEST_BYTES:
                    raise TransientError(f"{response.url.host} sent {done - before} bytes in {SLOWEST_S:g} s")
                looked, before = time.monotonic(), done
            if done > (MAX_BYTES if total is None else total):
                raise HubError(f"{response.url.host} sends more of {remote.name} than it has")
            file.write(piece)
            watcher.progress(remote.name, done, total)
    if total is not None and done < total:
        raise TransientError(f"{response.url.host} ended {remote.name} after {done} of {total} bytes")


def _difference(file: Path, remote: Remote) -> str | None:
    """What is wrong with a file, None if nothing is."""
    if remote.size is not None and file.stat().st_size != remote.size:
        return f"has {file.stat().st_size} bytes instead of {remote.size}"
    if remote.sha256 is not None and sha256(file) != remote.sha256:
        return "does not have the published SHA-256"
    if remote.sha256 is None and remote.git_sha1 is not None and _git_sha1(file) != remote.git_sha1:
        return "does not have the published hash"
    return None


def _git_sha1(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror
        raise HubError(
            f"cannot write to {folder}: {reason}. What has arrived is kept; make room, or set SIGHTWORD_HOME to "
            "another folder"
        ) from error
