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
SILENT_S = 1800.0  # a download tells of itself every few seconds; to convert the largest models takes minutes
# What the process that reads files of others has no use for.
SECRETS = ("SIGHTWORD_API_KEYS", "SIGHTWORD_ADMIN_KEY", "SIGHTWORD_REDIS_URL")


class Puller:
    """A process of its own does it, with torch, which has no place in this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def local(self, model: str) -> Path | None:
        """The bundle of a model: that folder, or where the model of that name is; None where it must be pulled first.

        Raises BundleError where it is neither a folder nor a name that a model can have.
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
            return None
        except HubError as error:
            raise BundleError(f"{model} is no folder, and {error}") from None
        except OSError as error:
            raise BundleError(f"{model} cannot be looked up: {error.strerror}") from None

    def pull(self, model: str) -> Path:
        """Fetch the published model of that name. Raises BundleError with the reason why that cannot be."""
        log.warning("%s is no folder here: fetching the published model of that name", model)
        try:
            told = self._run(model)
            folder = find(model)
        except OSError as error:
            raise BundleError(f"{model} cannot be pulled: {error.strerror}") from None
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
            silence = self._end_after_silence(process)
            for line in process.stdout or ():
                silence.cancel()
                silence = self._end_after_silence(process)
                if line.strip():
                    told = line.strip()
                    log.info("%s", told)
            silence.cancel()
        return told

    def _end_after_silence(self, process: subprocess.Popen[str]) -> threading.Timer:
        def end() -> None:
            log.error("the pull has said nothing for %g s, and is ended", SILENT_S)
            process.kill()

        timer = threading.Timer(SILENT_S, end)
        timer.daemon = True
        timer.start()
        return timer

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
