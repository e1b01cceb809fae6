"""The packages of public registries that the corpus is made from: their table, how to fetch one, how to read one.

Versions and hashes are those that the corpus was made with; downloads go through the registries' own clients.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Literal

TABLE = Path(__file__).with_name("sources.json")
INSTALL = {"npm": "Node.js with npm (Debian: apt-get install npm)", "apt-get": "apt, the package manager of Debian"}
TIMEOUT_S = 900
MAX_PACKAGE_BYTES = 2**30
MAX_MEMBER_BYTES, MAX_MEMBERS = 256 * 2**20, 100_000
AR_MAGIC = b"!<arch>\n"
AR_HEADER_BYTES = 60


class FetchError(RuntimeError):
    """A package could not be had, or is not the one that the table names."""


@dataclass(frozen=True, slots=True)
class Source:
    """A package of a public registry, and the SHA-256 of its archive."""

    name: str
    kind: Literal["npm", "apt"]
    package: str
    version: str
    licence: str
    attribution: str
    sha256: str
    what: str
    use: Literal["train", "words", "test"]


@cache
def sources() -> dict[str, Source]:
    """All sources by their short name, as `sources.json` lists them."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {row["name"]: Source(**row) for row in rows}


def fetch(source: Source, folder: Path) -> Path:
    """The package's archive in `folder`, downloaded unless it is there already. Raises FetchError for another hash."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / archive_name(source)
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _download(source, Path(scratch)).replace(archive)
    _check(source, archive)
    return archive


def archive_name(source: Source) -> str:
    """A file name without the characters that differ between the clients (`@`, `/`, `:`)."""
    safe = f"{source.package}-{source.version}".replace("@", "").replace("/", "-").replace(":", "_")
    return safe + (".tgz" if source.kind == "npm" else ".deb")


def _download(source: Source, folder: Path) -> Path:
    if source.kind == "npm":
        _run(["npm", "pack", "--silent", f"{source.package}@{source.version}"], folder)
    else:
        _apt_download(source, folder)
    files = [path for path in folder.iterdir() if path.suffix in {".tgz", ".deb"} and not path.is_symlink()]
    if len(files) != 1:
        raise FetchError(f"The client left {len(files)} archives for {source.package} {source.version}, expected one.")
    return files[0]


def _apt_download(source: Source, folder: Path) -> None:
    # Root's apt drops its privileges for downloads, and then cannot write into a folder that only root can.
    is_root = os.geteuid() == 0
    options = ["-o", "APT::Sandbox::User=root"] if is_root else []
    command = ["apt-get", *options, "download", f"{source.package}={source.version}"]
    try:
        _run(command, folder)
    except FetchError as error:
        hint = f"`apt-get update` may help; `apt-cache policy {source.package}` shows which version is served."
        if not is_root or shutil.which("apt-get") is None:
            raise FetchError(f"{error} {hint}") from error
        # Package lists that are missing or old are the usual reason.
        _run(["apt-get", "update"], folder)
        try:
            _run(command, folder)
        except FetchError as again:
            raise FetchError(f"{again} {hint}") from again


def _run(command: list[str], folder: Path) -> None:
    client = command[0]
    if shutil.which(client) is None:
        raise FetchError(f"`{client}` is not installed. Install {INSTALL[client]}, then run this again.")
    # Fixed commands, with names from the committed table, and no shell.
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"`{' '.join(command)}` was not done after {TIMEOUT_S} s.") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise FetchError(f"`{' '.join(command)}` failed: {lines[-1] if lines else 'no message'}.")


def _check(source: Source, path: Path) -> None:
    if not path.is_file() or path.stat().st_size > MAX_PACKAGE_BYTES:
        raise FetchError(f"{path} is no file, or larger than any package of the table. Delete it and run again.")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise FetchError(
            f"{path} is not {source.package} {source.version}: its SHA-256 is {found}, sources.json says "
            f"{source.sha256}. Delete the file and run again; if it differs again, the registry serves another build."
        )


def read_members(
    archive: Path, select: Callable[[str], bool], max_member_bytes: int = MAX_MEMBER_BYTES
) -> dict[str, bytes]:
    """The regular files of an npm package (tar.gz) or Debian package (ar) that `select` is true for, by path.

    Paths are without a leading `./` or `package/`.
    """
    found: dict[str, bytes] = {}
    with closing(_open_tar(archive)) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for member in tar:
            name = member.name.removeprefix("./").removeprefix("package/")
            if member.isfile() and select(name) and (file := tar.extractfile(member)) is not None:
                if member.size > max_member_bytes or len(found) >= MAX_MEMBERS:
                    raise ValueError(f"{archive} holds more than a package of pictures does; delete it and run again.")
                found[name] = file.read()
    return found


def _open_tar(archive: Path) -> IO[bytes]:
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
