"""The members of a tar file by key, as WebDataset has them, read so that no header decides how much memory is taken.

Nothing is unpacked: a member is where its bytes are. Names that lead elsewhere, links and devices are counted.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar, cast

from model.data.files import MAX_IMAGE_BYTES, check_regular, is_system_name
from model.data.skipped_samples import SkippedSamples

MAX_HEADER_BYTES = 2**18  # of one name or PAX record; tarfile would read whatever the header says
MAX_MEMBERS = 100_000  # of one key
MAX_KEY_BYTES = 2**30  # that are held of one key

Part = TypeVar("Part")


class ShardError(ValueError):
    """Data that cannot be read; the message names the file or the pattern."""


class _HeaderReader:
    """A file as tarfile reads it for headers only, never more than MAX_HEADER_BYTES at once."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.name = file, name

    def read(self, size: int = -1) -> bytes:
        """Raises ReadError for more than a header has, or a negative size."""
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)

    def tell(self) -> int:
        """As of the file."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of the file."""
        return self._file.seek(offset, whence)


def group_by_key(
    shard: Path,
    read_part: Callable[[Path, tarfile.TarInfo, str], Part],
    skipped: SkippedSamples | None = None,
    offset: int = 0,
) -> Iterator[tuple[str, dict[str, Part]]]:
    """Yield every key and its parts by suffix: what `read_part` gives for shard, member and suffix.

    `offset` is that of the member to begin with. A key ends at the first dot of a member's name; members that follow
    each other and share one are together. Raises ShardError, where the file is cut or damaged, after what precedes.
    """
    skipped = skipped or SkippedSamples()
    key, members, held = "", dict[str, Part](), 0
    try:
        for member in _members(shard, offset):
            folder, _, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if not _is_used(shard, member, skipped):
                continue
            stem, suffix = f"{folder}/{stem}" if folder else stem, suffix.lower()
            if stem != key and members:
                yield key, members
                members, held = {}, 0
            key = stem
            if suffix in members:
                skipped.pass_over(f"{shard.name}/{member.name}", "a member whose name came before in the same sample")
            if len(members) >= MAX_MEMBERS:
                raise tarfile.ReadError(f"more than {MAX_MEMBERS:,} members are called {key[:100]}.*")
            members[suffix] = part = read_part(shard, member, suffix)
            held += len(part) if isinstance(part, bytes) else 0
            if held > MAX_KEY_BYTES:
                raise tarfile.ReadError(f"more than {MAX_KEY_BYTES:,} bytes are called {key[:100]}.*")
    except (OSError, tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        if members:
            yield key, members
        raise ShardError(
            f"{shard} cannot be read as a tar file: {error}. Compressed ones are to be decompressed first"
        ) from error
    if members:
        yield key, members


def _members(shard: Path, offset: int) -> Iterator[tarfile.TarInfo]:
    """The members from `offset` on, of which none is kept; their sizes are checked against the file."""
    check_regular(shard)
    with shard.open("rb") as file, closing(_open_tar(file, shard, offset)) as archive:
        end, reached = shard.stat().st_size, -1
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # or a million of them read_part a gigabyte
            cast(dict[str, str], archive.pax_headers).clear()
            if member.size < 0 or member.offset_data + member.size > end:
                raise EOFError("the file is cut short, or says so")
            if member.offset_data <= reached:
                raise tarfile.ReadError("a header leads back")
            reached = member.offset_data
            yield member
        _check_end(shard, archive.offset)


def _open_tar(file: BinaryIO, shard: Path, offset: int) -> tarfile.TarFile:
    file.seek(offset)
    return tarfile.open(fileobj=cast(BinaryIO, _HeaderReader(file, str(shard))), mode="r:")


def _is_used(shard: Path, member: tarfile.TarInfo, skipped: SkippedSamples) -> bool:
    """Whether a member may be part of a sample; what is left out is counted, but for folders."""
    parts = PurePosixPath(member.name).parts
    reason = None
    if member.isdir():
        return False
    if not member.isfile() or member.issparse():
        reason = "a link, a device or a sparse file"
    elif member.name.startswith("/") or ".." in parts:
        reason = "a name that leads out of the archive"
    elif not parts or any(is_system_name(part) for part in parts if part != "."):
        reason = "hidden or made by the system"
    if reason:
        skipped.pass_over(f"{shard.name}/{member.name}", reason)
    return reason is None


def read_member(shard: Path, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member. Raises OSError for more than an image may have."""
    if member.size > MAX_IMAGE_BYTES:
        raise OSError(f"{member.name} has {member.size:,} bytes")
    handle = os.open(shard, os.O_RDONLY)
    try:
        return os.pread(handle, member.size, member.offset_data)
    finally:
        os.close(handle)


def _check_end(shard: Path, offset: int) -> None:
    """Raise ReadError where members follow `offset`: tarfile takes any block that is no header for the end."""
    with shard.open("rb") as file:
        file.seek(offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("what follows the last readable member is no header")
