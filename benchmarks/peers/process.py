"""Runs a server of others: in a process group of its own, without our environment, on the loopback."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

TERMINATE_S = 15.0
# What could change how a peer computes (it has its own defaults for threads), or what it is called with.
_NOT_INHERITED = (
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "NUMEXPR_", "TORCH", "PYTORCH_", "ATEN_"),
    *("PYTHON", "VIRTUAL_ENV", "LD_PRELOAD", "MALLOC_", "TOKENIZERS_", "UVICORN_", "WEB_CONCURRENCY", "FORWARDED_"),
    *("INFINITY_", "LITSERVE_", "HF_", "TRANSFORMERS_", "SENTENCE_TRANSFORMERS_", "SIGHTWORD_"),
)
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
}


class PeerError(RuntimeError):
    """A peer that cannot be started, does not answer, or computes something else; the message says which."""


def environment(home: Path) -> dict[str, str]:
    """Ours, without what would change a peer; what it downloads or keeps would lie in `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    return {**inherited, **_QUIET, "HF_HOME": str(home)}


@contextmanager
def own_process(
    command: Sequence[str | Path], log: Path, *, terminate_s: float = TERMINATE_S
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a process group, ended on the way out: SIGTERM, and SIGKILL after `terminate_s`.

    Its standard output and standard error go to `log`.
    """
    with tempfile.TemporaryDirectory(prefix="peer-") as home, log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the commands are those of the catalogue
            command,
            cwd=home,
            env=environment(Path(home)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process, terminate_s)


def _end(process: subprocess.Popen[bytes], terminate_s: float) -> None:
    """SIGTERM, a timeout, SIGKILL; the last to the whole group, as a leader that died may leave workers behind."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGCONT)  # it may have been stopped while others were measured
    with suppress(subprocess.TimeoutExpired):
        process.wait(terminate_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ask(url: str, request: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer to a request on a connection of its own. Raises OSError or HTTPException."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout_s) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()
