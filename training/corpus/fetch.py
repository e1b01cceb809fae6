"""Downloads packages with the registries' own clients and checks them against the table of hashes."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from training.corpus.sources import Source

INSTALL = {"npm": "Node.js with npm (Debian: apt-get install npm)", "apt-get": "apt, the package manager of Debian"}
TIMEOUT_S = 900
MAX_PACKAGE_BYTES = 2**30


class FetchError(RuntimeError):
    """A package could not be had, or is not the one that the table names."""


def fetch(source: Source, cache: Path) -> Path:
    """The package's archive in `cache`, downloaded unless it is there already, with the right hash."""
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / archive_name(source)
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _download(source, Path(scratch)).replace(kept)
    _check(source, kept)
    return kept


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
