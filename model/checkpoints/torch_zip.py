"""The zip files that torch writes, mapped into memory and checked entry by entry before anything is read from them."""

from __future__ import annotations

import io
import lzma
import mmap
import struct
import zipfile
import zlib
from pathlib import Path

from model.checkpoints.checkpoint import CheckpointError

MAGIC = b"PK\x03\x04"
_DIRECTORY_BYTES = 4 << 20  # of the table of entries: some 50,000, where published checkpoints have hundreds
# What zipfile and the decompressors raise for files that are damaged or forged.
_UNREADABLE = (
    *(OSError, ValueError, EOFError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, struct.error, zlib.error, lzma.LZMAError),
)
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # magic, then the lengths of the name and of the extra field


class TorchZip:
    """A zip file in which every entry but source code is stored as it is.

    Only `source_code` decompresses, so nothing else can grow beyond the size of the file.
    """

    def __init__(self, file: Path) -> None:
        """Raises CheckpointError for a file that is truncated, or that torch cannot have written."""
        self.file = file
        try:
            with _Bounded(file) as stream, zipfile.ZipFile(stream) as archive:
                entries = archive.infolist()
                self.content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except _UNREADABLE as error:
            raise CheckpointError(f"{file} is no whole zip file ({error}): download it again") from error
        self._entries = {entry.filename: entry for entry in entries}
        # torch itself looks entries up without regard to case.
        if len({name.lower() for name in self._entries}) != len(entries):
            raise CheckpointError(f"{file} has two entries of one name: torch writes no such file")
        stored = [entry for entry in entries if entry.compress_type == zipfile.ZIP_STORED]
        if sum(entry.file_size for entry in stored) > len(self.content):
            raise CheckpointError(f"{file} has entries that overlap: torch writes no such file")
        roots = [name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise CheckpointError(f"{file} is a zip file without weights: torch would have written one data.pkl in it")
        self.root = roots[0].removesuffix("data.pkl")
        self._places: dict[str, tuple[int, int]] = {}

    def names(self) -> list[str]:
        """Names of the entries below the one folder that torch writes."""
        return [name.removeprefix(self.root) for name in self._entries if name.startswith(self.root)]

    def expect_stored(self) -> None:
        """Raise CheckpointError unless every entry is stored as it is, as all are that `torch.save` writes."""
        for name in self.names():
            self.place(name)

    def place(self, name: str) -> tuple[int, int]:
        """Offset in `content`, and length in bytes, of a stored entry, whose checksum is computed once."""
        if name not in self._places:
            self._places[name] = self._checked(name)
        return self._places[name]

    def _checked(self, name: str) -> tuple[int, int]:
        entry = self._entries.get(self.root + name)
        if entry is None:
            raise CheckpointError(f"{self.file} has no entry {name!r}: it is incomplete")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise CheckpointError(f"{self.file}: {name} is compressed or encrypted, which torch writes no weights")
        start = entry.header_offset
        header = self.content[start : start + _LOCAL_HEADER.size]
        if len(header) < _LOCAL_HEADER.size or not header.startswith(MAGIC):
            raise CheckpointError(f"{self.file}: {name} is not where the zip file says: download it again")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start += _LOCAL_HEADER.size + name_length + extra_length
        if start + entry.file_size > len(self.content):
            raise CheckpointError(f"{self.file} ends within {name}: download it again")
        if zlib.crc32(memoryview(self.content)[start : start + entry.file_size]) != entry.CRC:
            raise CheckpointError(
                f"{self.file}: {name} does not have the checksum it was saved with: download it again, "
                "or save it again with checksums"
            )
        return start, entry.file_size

    def read(self, name: str, most: int) -> bytes:
        """The bytes of a stored entry of at most that many."""
        start, length = self.place(name)
        if length > most:
            raise CheckpointError(f"{self.file}: {name} has {length} bytes, more than the {most} that are read of it")
        return self.content[start : start + length]

    def source_code(self, most: int) -> bytes:
        """The first bytes of all that is written in Python, which torch compresses, to be looked at as text."""
        names = [name for name in self._entries if name.startswith(f"{self.root}code/") and name.endswith(".py")]
        code: list[bytes] = []
        try:
            with _Bounded(self.file) as stream, zipfile.ZipFile(stream) as archive:
                for name in names:
                    with archive.open(name) as source:
                        code.append(source.read(most))
                        most -= len(code[-1])
        except _UNREADABLE as error:
            raise CheckpointError(f"{self.file}: its source code cannot be read: {error}") from error
        return b"".join(code)


class _Bounded(io.FileIO):
    """A file of which zipfile, which reads the table of entries in one piece, gets no piece that is too large."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its table of entries has {size} bytes")
        return super().read(size) or b""
