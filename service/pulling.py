"""Models named rather than given as folders: those that were pulled, and the process that pulls one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from model.bundle import BundleError
from model.hub.errors import HubError
from model.hub.store import find

log = logging.getLogger(__name__)
GIVE_UP_S = 5.0
# What the process that reads files of others has no use for.
SECRETS = ("SIGHTWORD_API_KEYS", "SIGHTWORD_ADMIN_KEY", "SIGHTWORD_REDIS_URL")


class Puller:
    """A process of its own does it, with torch, which has no place in this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def folder(self, model: str) -> Path:
        """The bundle of a model: that folder, or where the model of that name is, pulled first if need be.

        Raises BundleError with the reason why there is none.
        """
        try:
            if Path(model).exists() or model.startswith(("/", "./", "../")):
                return Path(model)
            name = model.partition("@")[0]
            deep = name.count("/") > 1
            if not deep and (folder := find(model)):
                return folder
            if deep or ("/" in name and Path(name).parent != Path() and Path(name).parent.is_dir()):
                raise BundleError(
                    f"the folder {model} is missing: is its volume mounted? To serve a published model of that name, "
                    "pull it first: python -m model pull ORGANISATION/NAME"
                )
            return self._pull(model)
        except HubError as error:
            raise BundleError(f"{model} is no folder, and {error}") from None
        except OSError as error:
            raise BundleError(f"{model} cannot be looked up: {error.strerror}") from None

    def _pull(self, model: str) -> Path:
        log.warning("%s is no folder here: fetching the published model of that name", model)
        told = self._run(model)
        folder = find(model)
        if folder is None:
            raise BundleError(f"{model} is no folder, and could not be pulled: {told}")
        return folder

    def _run(self, model: str) -> str:
        """The last line that the process wrote; where it failed, that is the reason."""
        with self._lock:
            if self._stopped:
                return "the service is stopping"
            # In a session of its own, so that a Ctrl-C reaches only this process, which ends the other.
            self._process = subprocess.Popen(  # noqa: S603 - the name has a form that no shell or option parser minds
                [sys.executable, "-m", "model", "pull", "--", model],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True, env={name: value for name, value in os.environ.items() if name not in SECRETS},
            )  # fmt: skip
        told = "it ended without a word"
        with self._process as process:
            for line in process.stdout or ():
                if line.strip():
                    told = line.strip()
                    log.info("%s", told)
        return told

    def stop(self) -> None:
        """End a pull; what has arrived is kept for the next one."""
        with self._lock:
            self._stopped = True
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(GIVE_UP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
