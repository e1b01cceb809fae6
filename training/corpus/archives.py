"""Reads the members of npm packages (tar.gz) and Debian packages (ar with a data tarball) into memory."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60
MAX_MEMBER_BYTES, MAX_MEMBERS = 256 * 2**20, 100_000


def read_members(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The regular files of a package whose path (without a leading `./` or `package/`) is wanted."""
    found: dict[str, bytes] = {}
    with closing(_open(archive)) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./").removeprefix("package/")
            if member.isfile() and wanted(name) and (file := tar.extractfile(member)) is not None:
                if member.size > MAX_MEMBER_BYTES or len(found) >= MAX_MEMBERS:
                    raise ValueError(f"{archive} holds more than a package of pictures does; delete it and run again.")
                found[name] = file.read()
    return found


def _open(archive: Path) -> IO[bytes]:
    if archive.suffix != ".deb":
        return archive.open("rb")
    for name, data in _ar_members(archive.read_bytes()):
        if name.startswith("data.tar"):
            return io.BytesIO(data)
    raise ValueError(f"{archive} holds no data tarball; delete it and run again.")


def _ar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    if not data.startswith(AR_MAGIC):
        raise ValueError("Not a Debian package: the ar signature is missing.")
    start = len(AR_MAGIC)
    while start + AR_HEADER_BYTES <= len(data):
        header = data[start : start + AR_HEADER_BYTES]
        size = int(header[48:58])
        if size < 0:
            raise ValueError("A member of the Debian package has a negative size.")
        body = start + AR_HEADER_BYTES
        yield header[:16].decode("ascii").strip().rstrip("/"), data[body : body + size]
        # Members begin at even offsets.
        start = body + size + size % 2
