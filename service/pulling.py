"""Models by name instead of folder: finds those that were pulled, and pulls others in a subprocess."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from model.hub.errors import HubError
from model.hub.folders import find_bundle
from model.manifest import BundleError

log = logging.getLogger(__name__)
TERMINATE_S = 5.0
MESSAGE_CHARACTERS = 4000
SILENT_S = 1800.0  # without output; a download logs every few seconds, converting the largest model takes minutes
# Not passed to the subprocess, which reads files of others.
WITHHELD = ("SIGHTWORD_API_KEYS", "SIGHTWORD_ADMIN_KEY", "SIGHTWORD_REDIS_URL")


class Puller:
    """Pulls models in a subprocess, `python -m model pull`, as the service must not import torch."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def find(self, model: str) -> Path | None:
        """The folder of a model's bundle, given that folder or a name; None where it must be pulled first.

        Raises BundleError where it is neither a folder nor a valid name.
        """
        try:
            if Path(model).exists() or model.startswith(("/", "./", "../")):
                return Path(model)
            name = model.partition("@")[0]
            deep = name.count("/") > 1
            if not deep and (folder := find_bundle(model)):
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
        """Download and convert the published model of that name. Raises BundleError with the reason of a failure."""
        log.warning("%s is no folder here: fetching the published model of that name", model)
        try:
            reason = self._run(model)
            folder = find_bundle(model)
        except OSError as error:
            raise BundleError(f"{model} cannot be pulled: {error.strerror}") from None
        if folder is None:
            raise BundleError(f"{model} is no folder, and could not be pulled: {reason}")
        return folder

    def _run(self, model: str) -> str:
        """Run the subprocess and log its output; returns the last message, the reason where it failed.

        Lines that are indented or follow an empty one belong to the message before them.
        """
        with self._lock:
            if self._stopped:
                return "the service is stopping"
            # In a session of its own, so that a Ctrl-C reaches only this process, which ends the other.
            self._process = subprocess.Popen(  # noqa: S603 - the name has a form that no shell or option parser minds
                [sys.executable, "-m", "model", "pull", "--", model],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                start_new_session=True, env={name: value for name, value in os.environ.items() if name not in WITHHELD},
            )  # fmt: skip
        message, goes_on = "it ended without a word", False
        with self._process as process:
            timer = self._kill_after_silence(process)
            for line in process.stdout or ():
                timer.cancel()
                timer = self._kill_after_silence(process)
                if words := line.strip():
                    message = f"{message} {words}"[:MESSAGE_CHARACTERS] if goes_on or line[0].isspace() else words
                    if not words.startswith("serve it: "):  # which is what happens next
                        log.info("%s", words)
                goes_on = not words
            timer.cancel()
        return message

    def _kill_after_silence(self, process: subprocess.Popen[str]) -> threading.Timer:
        def kill() -> None:
            log.error("the pull has said nothing for %g s, and is ended", SILENT_S)
            process.kill()

        timer = threading.Timer(SILENT_S, kill)
        timer.daemon = True
        timer.start()
        return timer

    def stop(self) -> None:
        """End a pull; what it has downloaded is kept for the next one."""
        with self._lock:
            self._stopped = True
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(TERMINATE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
