"""Workers that are real processes with a model and no HTTP, and a parent that only passes questions on.

Run as a module, one such worker: what it is asked over the socket of that descriptor, it answers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.service_process import clean_environment
from service.workers.channel import Channel

START_S = 60.0


class Processes:
    """Workers by number. `before` is awaited before each question, with the worker's number and the question."""

    def __init__(self, folder: Path, count: int, module: str = __name__) -> None:
        self.folder, self.count, self.module = folder, count, module
        self.killed: list[int] = []
        self.before: Callable[[int, str], Awaitable[None]] = _nothing
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._channels: dict[int, Channel] = {}
        self._serving: dict[int, asyncio.Task[None]] = {}

    async def start(self, number: int, model: Path, **settings: str) -> None:
        """One that serves `model`, once it has loaded it."""
        ours, theirs = socket.socketpair()
        with theirs, (self.folder / f"worker-{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [sys.executable, "-m", *self.module.split(), str(theirs.fileno())],
                env=clean_environment({"model": str(model), "max_batch": "8", "cache_bytes": "0", **settings}),
                pass_fds=[theirs.fileno()],
                stderr=log,
            )
        self._channels[number] = Channel(ours, {})
        self._serving[number] = asyncio.create_task(self._channels[number].serve())
        await self.ask(number, "served", None, START_S)

    def connected(self) -> Sequence[int]:
        return [number for number, channel in self._channels.items() if not channel.closed]

    def serving(self) -> Sequence[int]:
        return self.connected()

    async def ask(self, number: int, what: str, argument: Any = None, timeout_s: float = 10.0) -> Any:
        await self.before(number, what)
        return await self._channels[number].ask(what, argument, timeout_s)

    def kill(self, number: int) -> None:
        self.killed.append(number)
        self._processes[number].kill()

    def send(self, number: int, signal_number: int) -> None:
        self._processes[number].send_signal(signal_number)

    def log(self, number: int) -> str:
        return (self.folder / f"worker-{number}.log").read_text("utf-8")

    async def gone(self, number: int) -> None:
        """Wait until that worker's end is known."""
        await asyncio.wait_for(self._serving[number], 10)

    async def close(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        for number in self._serving:
            await self.gone(number)


async def _nothing(number: int, what: str) -> None: ...


@asynccontextmanager
async def processes(folder: Path, *models: Path, module: str = __name__, **settings: str) -> AsyncIterator[Processes]:
    """Workers 0, 1, ... that serve these models."""
    workers = Processes(folder, len(models), module)
    try:
        await asyncio.gather(*(workers.start(number, model, **settings) for number, model in enumerate(models)))
        yield workers
    finally:
        await workers.close()


async def serve(descriptor: int) -> None:
    from service import logs
    from service.member import Member
    from service.settings import Settings
    from service.state import Service
    from service.threads import run_in_daemon_thread

    logs.configure("text")
    service = Service(Settings.read({}))
    await run_in_daemon_thread(service.models.load)

    async def count(items: int) -> None:
        service.metrics.record_batch("text", items)
        service.metrics.request_seconds.labels("/embed").observe(items / 100, {"trace_id": f"{items:032x}"})

    async def is_client(key: str) -> bool:
        return service.keys.is_client(key.encode())

    handlers = Member(service.metrics, service.keys, service.models).handlers()
    await Channel(socket.socket(fileno=descriptor), {**handlers, "count": count, "is_client": is_client}).serve()
    os._exit(0)


def main() -> None:
    import uvloop

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(serve(int(sys.argv[-1])))


if __name__ == "__main__":
    main()
