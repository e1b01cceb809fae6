"""Download one file over HTTP: resumed where an earlier process stopped, and checked against its published hash.

Not by huggingface_hub: its hf_hub_download resumes nothing after a process has ended, compares no hash over plain HTTP,
bounds neither what a server sends nor how slowly, and knows nothing of OpenAI's archives, which need all of this too.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from model.hub.errors import HubError, TransientError
from model.hub.http import RETRY_DELAYS_S, ProgressReporter, retry, stream_get

MAX_BYTES = 64 * 2**30  # where nobody says how large a file is
_BYTES = re.compile(r"[0-9]{1,15}")
_CONTENT_RANGE = re.compile(rf"bytes (?:({_BYTES.pattern})-{_BYTES.pattern}|\*)/({_BYTES.pattern}|\*)")


@dataclass(frozen=True)
class RemoteFile:
    """A file, and what is published of its content."""

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None  # of the blob: git's own hash of small files


@dataclass(frozen=True)
class DownloadLimits:
    """When a try is given up, and how long to wait before the next: `min_bytes` must come in each `window_s`."""

    min_bytes: int = 64 * 1024
    window_s: float = 120.0
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S


DEFAULT_LIMITS = DownloadLimits()


def download_file(
    client: httpx2.Client,
    remote: RemoteFile,
    folder: Path,
    reporter: ProgressReporter,
    limits: DownloadLimits = DEFAULT_LIMITS,
) -> Path:
    """Download a file into `folder`, under its name once it is complete and verified, as NAME.partial before.

    Raises HubError where it cannot be had or its content is not the published one, which is then removed.
    """
    target, partial = folder / remote.name, folder / f"{remote.name}.partial"
    if target.exists():
        if _mismatch(target, remote) is None:
            return target
        target.unlink()
    with _describing_disk_errors(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = partial.exists()
        mismatch = _download(client, remote, partial, reporter, limits)
        if mismatch is not None and resumed:
            reporter.note(f"{remote.name} {mismatch}: what had arrived before is of no use, beginning anew")
            mismatch = _download(client, remote, partial, reporter, limits)
        if mismatch is not None:
            raise HubError(
                f"{remote.name} from {httpx2.URL(remote.url).host} {mismatch}. It was removed; run the command again "
                "to fetch it anew"
            )
        partial.replace(target)
    return target


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parse_range(response: httpx2.Response) -> tuple[int, int | None]:
    """Offset of the body in the file, -1 if that is not said, and the size of the file in bytes where it is said."""
    if response.status_code == 200:
        length = response.headers.get("content-length")
        if length is not None and not _BYTES.fullmatch(length):
            raise HubError(f"{response.url.host} sent a Content-Length that is no number of bytes")
        return 0, int(length) if length is not None else None
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        return -1, None
    return int(match[1] or -1), int(match[2]) if match[2] != "*" else None


def _download(
    client: httpx2.Client, remote: RemoteFile, partial: Path, reporter: ProgressReporter, limits: DownloadLimits
) -> str | None:
    """Receive the file, or the rest of it; returns what is wrong with it, and it is removed then."""

    def receive() -> None:
        _receive(client, remote, partial, reporter, limits)

    retry(receive, reporter, limits.retry_delays_s, lambda: _size(partial))
    partial.touch()  # a file of no bytes
    mismatch = _mismatch(partial, remote)
    if mismatch is not None:
        partial.unlink(missing_ok=True)
    return mismatch


def _receive(
    client: httpx2.Client, remote: RemoteFile, partial: Path, reporter: ProgressReporter, limits: DownloadLimits
) -> None:
    # No If-Range: the address is of one commit or one hash, and what was put together is held against the hash.
    done = _size(partial)
    if remote.size is not None and done >= remote.size:
        return
    headers = {"Range": f"bytes={done}-"} if done else None
    with stream_get(client, remote.url, remote.name, headers) as response:
        offset, total = parse_range(response)
        if response.status_code == 416 and total == done:
            return
        if (offset != done and offset != 0) or response.status_code == 416:
            partial.unlink(missing_ok=True)
            raise TransientError(f"{response.url.host} did not go on with {remote.name} where it ended")
        if None not in (total, remote.size) and total != remote.size:
            partial.unlink(missing_ok=True)
            raise HubError(f"{remote.name} is said to have {remote.size} bytes, but {response.url.host} has {total}")
        total = total if remote.size is None else remote.size
        _check_disk_space(partial.parent, remote.name, offset, total)
        with partial.open("ab" if offset else "wb", buffering=0) as file:
            for piece, done in _pieces(response, remote.name, offset, total, limits):
                file.write(piece)
                reporter.progress(remote.name, done, total)


def _pieces(
    response: httpx2.Response, name: str, done: int, total: int | None, limits: DownloadLimits
) -> Iterator[tuple[bytes, int]]:
    """The body by pieces, each with the bytes of the file up to its end; `done` are there already.

    Raises TransientError for a body that is too slow or too short, HubError for one that is too long.
    """
    window_start, window_done = time.monotonic(), done
    for piece in response.iter_raw():
        done += len(piece)
        if time.monotonic() - window_start > limits.window_s:
            if done - window_done < limits.min_bytes:
                raise TransientError(f"{response.url.host} sent {done - window_done} bytes in {limits.window_s:g} s")
            window_start, window_done = time.monotonic(), done
        if done > (MAX_BYTES if total is None else total):
            raise HubError(f"{response.url.host} sends more of {name} than it has")
        yield piece, done
    if total is not None and done < total:
        raise TransientError(f"{response.url.host} ended {name} after {done} of {total} bytes")


def _check_disk_space(folder: Path, name: str, done: int, total: int | None) -> None:
    if total is not None and total - done > (free := shutil.disk_usage(folder).free):
        raise HubError(
            f"{folder} has {free / 1e9:.1f} GB free, and {name} needs {(total - done) / 1e9:.1f} GB: "
            "make room, or set SIGHTWORD_HOME to a folder on another disk"
        )


def _mismatch(file: Path, remote: RemoteFile) -> str | None:
    """How a file differs from what is published of it, None if it does not."""
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
def _describing_disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError into a HubError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror
        raise HubError(
            f"cannot write to {folder}: {reason}. What has arrived is kept; make room, or set SIGHTWORD_HOME to "
            "another folder"
        ) from error
