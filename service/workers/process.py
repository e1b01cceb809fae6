"""A worker process as its parent sees it: started, asked, and told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from service.workers.channel import Channel, Handlers
from service.workers.handover import VARIABLE, Handover, command

# A terminal sends these to all processes of a group, and each is for the parent to act upon.
NOT_FOR_WORKERS = {signal.SIGINT, signal.SIGHUP}
Answer = Callable[[int, Any], Awaitable[Any]]  # to a question of the worker of that number, with its argument


class WorkerProcess:
    """One worker process; it is `listening`, and then `ready`, from when it has said so."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.number, self.process, self.channel = number, process, channel
        self.listening = self.ready = False
        self._beat, self._looks = 0, 0  # the last one seen, and how often it was seen again
        self._serving = asyncio.get_running_loop().create_task(channel.serve())

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    def seems_stuck(self, beat: int, most_looks: int, most_first_looks: int) -> bool:
        """Look once more: whether the same beat, 0 before the first one, has been seen too often."""
        self._looks = self._looks + 1 if beat == self._beat else 0
        self._beat = beat
        return self._looks >= (most_looks if beat else most_first_looks)

    async def wait(self) -> int:
        """Its exit code, or a negative number for the signal that ended it; the channel is closed then."""
        status = await self.process.wait()
        self.channel.close()
        await self._serving
        return status


async def start(handover: Handover, answers: dict[str, Answer], end: socket.socket) -> WorkerProcess:
    """Start a process with what is handed down to it; `end` is the parent's of the channel. Raises OSError."""
    memory = handover.write()
    # Which the process inherits: it is forked before anything is waited for. Several may be starting at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_WORKERS)
    try:
        process = await asyncio.create_subprocess_exec(
            *command(), env={**os.environ, VARIABLE: str(memory)}, pass_fds=[memory, *handover.descriptors]
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_WORKERS)
        os.close(memory)
    handlers: Handlers = {name: partial(answer, handover.number) for name, answer in answers.items()}
    return WorkerProcess(handover.number, process, Channel(end, handlers))


def describe(status: int) -> str:
    """An exit code, or a signal, in words."""
    return f"with exit code {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
