"""A peer: how it is installed, started and ended, what it is asked and how it answers."""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.inputs import PHOTOGRAPHS
from benchmarks.peers.process import PeerError, ask, own_process
from benchmarks.service_process import free_port

ENVIRONMENTS = Path(__file__).parents[2] / ".bench" / "peers"  # the Makefile's bench-peers makes them
START_S = 180.0
ANSWER_S = 60.0
_EVERY_S = 0.2
_FIRST_IMAGE, _FIRST_TEXT = PHOTOGRAPHS / "chelsea.jpg", "a photo of a cat"


@dataclass(frozen=True)
class Protocol:
    """How a peer is asked for the vector of one item, and where in its answer that stands."""

    image: Callable[[bytes], bytes]  # a JPEG file -> a whole HTTP request
    text: Callable[[str], bytes]
    vector: Callable[[Any], list[float]]  # of the JSON of an answer


@dataclass(frozen=True)
class Peer:
    """One service in one setting."""

    name: str
    precision: Literal["fp32", "int8"]
    environment: str  # name of its folder in `environments` and of its requirement file
    packages: tuple[str, ...]  # that say what was measured
    command: Callable[[Path, Path, int], list[str]]  # its python, folder of the model, port
    protocol: Protocol
    text_tokens: int | None = None  # where it truncates texts silently, control tokens counted; None: at the context
    environments: Path = ENVIRONMENTS  # where the folder `environment` lies

    @property
    def requirements(self) -> Path:
        """The file with the version of every package."""
        return Path(__file__).with_name(f"{self.environment}.txt")

    @property
    def python(self) -> Path:
        """Of its virtual environment."""
        return self.environments / self.environment / "bin" / "python"

    def versions(self) -> str:
        """What was measured, for a report: `litserve 0.2.19, transformers ...`."""
        pins = dict(line.split("==") for line in self.requirements.read_text("utf-8").split())
        return ", ".join(f"{package} {pins[package]}" for package in self.packages)

    def missing(self) -> str | None:
        """Why it cannot be started, or None where it can."""
        installed = self.environments / self.environment / "installed.txt"
        if not (installed.exists() and self.python.exists()):
            return f"{self.name} is not installed: run make bench-peers"
        if installed.read_bytes() != self.requirements.read_bytes():
            return (
                f"{self.name} is installed in other versions than {self.requirements.name} says: run make bench-peers"
            )
        return None

    @contextmanager
    def start(self, model: Path, log: Path) -> Iterator[PeerServer]:
        """Serve the folder that `write_model` wrote; yields once a picture and a text were answered.

        Raises PeerError where the peer is missing, ends, or gives no vectors within START_S.
        """
        if reason := self.missing():
            raise PeerError(reason)
        port = free_port()
        with own_process(self.command(self.python, model.resolve(), port), log) as process:
            server = PeerServer(self, f"http://127.0.0.1:{port}", process.pid, log)
            _wait(server, process)
            yield server


@dataclass(frozen=True)
class PeerServer:
    """A started peer. `pid` leads the group of all its processes: it may be stopped and continued by that number."""

    peer: Peer
    url: str
    pid: int
    log: Path

    def image(self, jpeg: bytes) -> bytes:
        """The request for the vector of a JPEG file."""
        return self.peer.protocol.image(jpeg)

    def text(self, text: str) -> bytes:
        """The request for the vector of a text."""
        return self.peer.protocol.text(text)

    def vector(self, request: bytes) -> npt.NDArray[np.float32]:
        """The answer to a request: [dimensions], of unit length. Raises PeerError where it is none."""
        try:
            status, body = ask(self.url, request, ANSWER_S)
        except (OSError, http.client.HTTPException) as error:
            raise PeerError(f"{self.peer.name} does not answer: {error}") from error
        if status != 200:
            raise PeerError(f"{self.peer.name} answers {status}: {body[:300].decode(errors='replace')}")
        try:
            vector = np.array(self.peer.protocol.vector(json.loads(body)), np.float32)
        except (ValueError, LookupError, TypeError) as error:
            raise PeerError(
                f"{self.peer.name} answers without a vector: {body[:300].decode(errors='replace')}"
            ) from error
        length = np.linalg.norm(vector)
        if vector.ndim != 1 or not (np.isfinite(length) and length):
            raise PeerError(f"{self.peer.name} answers no finite vector, but {vector.shape} of length {length}")
        return vector / length


def _wait(server: PeerServer, process: subprocess.Popen[bytes]) -> None:
    """Until both kinds of items are answered. Raises PeerError with the end of the log."""
    first = (server.image(_FIRST_IMAGE.read_bytes()), server.text(_FIRST_TEXT))
    ends = time.monotonic() + START_S
    while True:
        try:
            for request in first:
                server.vector(request)
            return
        except PeerError as error:
            if process.poll() is not None or time.monotonic() > ends:
                tail = server.log.read_text("utf-8", "replace")[-1500:]
                raise PeerError(f"{server.peer.name} did not start: {error}\n{server.log}: ...{tail}") from error
        time.sleep(_EVERY_S)
