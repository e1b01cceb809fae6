"""The parent of several worker processes on one port: it starts them, replaces those that end, and ends with them.

It opens the port and hands the sockets down, so that connections which wait in the kernel outlive the worker that would
have taken them. It loads no model and serves no request. uvicorn has a supervisor too (`uvicorn.supervisors`), which is
not used: it knows no worker that loads for minutes and is not ready meanwhile, replaces one that ends at once and for
ever, ends all that are at work one by one at SIGHUP, and leaves to the kernel which worker has how many connections.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from service import shared_memory
from service.board import Board, Field, Phase
from service.settings import PREFIX, Settings, SettingsError
from service.workers.channel import ChannelError
from service.workers.handover import Handover, to_hand_down
from service.workers.process import Answer, WorkerProcess, describe, start

log = logging.getLogger(__name__)
LOOK_S = 0.5
STUCK_S = 120.0  # an event loop that has not turned for so long never does
# For a process to get to its event loop: imports, settings and manifests. Models are pulled, read and warmed up after
# that, in threads that have bounds of their own.
FIRST_BEAT_S = 600.0
FORGIVEN_S = 600.0  # an end so long after the start counts as a first one
MAX_PAUSE_S = 60.0  # before another worker is started in the place of one that ends again and again
GIVES_UP_AFTER = 3  # ends of a worker, one soon after the other, where no other is ready
LATE_S = 15.0  # after the time of a drain, in which workers end by themselves
SETTLE_S = 0.3  # who ends a whole group signals each process, and the parent may be the last to hear it
FINE = (0, -signal.SIGTERM)  # how workers end that are told to, the second before they can listen


class Parent:
    """`run` is the whole life of the service. Questions of workers are answered by `handlers`."""

    def __init__(
        self, settings: Settings, count: int, sockets: Sequence[socket.socket], weights: Path | None = None
    ) -> None:
        """`sockets` listen, `weights` is a folder for what workers share of models, if they can.

        Raises OSError where there is no memory to share, SettingsError where not so much.
        """
        self.settings, self.count, self._sockets, self._weights = settings, count, sockets, weights
        self.handlers: dict[str, Answer] = {"listening": self._is_listening, "ready": self._is_ready}
        self.on_ready: Callable[[int], Awaitable[None]] | None = None  # before it takes connections; may refuse it
        self.on_end: list[Callable[[int], None]] = []
        self.on_hangup: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._board_file = shared_memory.create("sightword-board", Board.size(count))
        self._board = Board(shared_memory.attach(self._board_file), count)
        self._cache_file = _share_cache(settings)
        self._processes: dict[int, WorkerProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._keepers: set[asyncio.Task[None]] = set()
        self._told_to_end = asyncio.Event()
        self._has_listened = self._is_complete = False
        self._status = 0

    def serving(self) -> list[int]:
        """Numbers of the workers that are ready."""
        return sorted(number for number, process in self._processes.items() if process.ready)

    def connected(self) -> list[int]:
        """Numbers of the workers that have answered at all, be they ready or not."""
        return sorted(number for number, process in self._processes.items() if process.listening)

    def kill(self, number: int) -> None:
        """End a worker at once; another takes its place, as in that of any that ends."""
        if number in self._processes:
            self._processes[number].send_signal(signal.SIGKILL)

    async def ask(self, number: int, what: str, argument: Any = None, timeout_s: float = 10.0) -> Any:
        """The answer of a worker. Raises its ApiError, or ChannelError where it gives none."""
        if number not in self._processes:
            raise ChannelError(f"there is no worker {number} now")
        return await self._processes[number].channel.ask(what, argument, timeout_s)

    async def ask_all(self, what: str, argument: Any = None, timeout_s: float = 10.0) -> dict[int, Any]:
        """The answers of all workers that are ready, by number; in place of one, its ApiError or ChannelError."""
        numbers = self.serving()
        answers = await asyncio.gather(
            *(self.ask(number, what, argument, timeout_s) for number in numbers), return_exceptions=True
        )
        return dict(zip(numbers, answers, strict=True))

    async def run(self) -> int:
        """Have the workers until a signal, or their failure, ends the service. Its exit code."""
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGHUP: self._hang_up}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        self._spawn(self._watch())
        self._keep(0)  # alone: what it pulls, builds and complains about is pulled, built and told once
        while self._keepers:
            done, _ = await asyncio.wait(self._keepers, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if (error := task.exception()) is not None:
                    log.error("nobody looks after a worker any more", exc_info=error)
                    self._fail("the parent has failed", 1)
            self._keepers -= done
        return self._status

    def _keep(self, number: int) -> None:
        self._keepers.add(asyncio.get_running_loop().create_task(self._keep_one(number)))

    async def _keep_one(self, number: int) -> None:
        """Have one worker of that number until the end of the service."""
        failures, was_ever_ready = 0, False
        while self._board.phase is Phase.SERVING:
            began = time.monotonic()
            status, was_ready = await self._live(number)
            was_ever_ready |= was_ready
            if status in FINE:
                await self._pause(SETTLE_S)
            how = f"worker {number} has ended {describe(status)}"
            if self._board.phase is not Phase.SERVING:
                return self._note_end(status, how)
            failures = 1 if time.monotonic() - began > FORGIVEN_S else failures + 1
            if not was_ever_ready:
                return self._fail(f"{how} before it was ready", status if status > 0 else 1)
            if failures >= GIVES_UP_AFTER and not self.serving():
                return self._fail(f"{how}, the {failures}th time, and no other is ready", 1)
            pause_s = 0.0 if failures == 1 else min(MAX_PAUSE_S, 2.0 ** (failures - 2))
            log.error("%s: another is started%s", how, f" in {pause_s:g} s" if pause_s else "")
            await self._pause(pause_s)
        return None

    def _note_end(self, status: int, how: str) -> None:
        if status not in FINE:
            self._status = self._status or 1
            log.error("%s", how)

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told_to_end.wait()

    async def _live(self, number: int) -> tuple[int, bool]:
        """One process of that number, from its start to its end: its exit code, and whether it has been ready."""
        try:
            process = self._processes[number] = await self._start(number)
        except OSError as error:
            log.error("worker %d cannot be started: %s", number, error.strerror)
            return 1, False
        if self._board.phase is not Phase.SERVING:  # since just now
            process.send_signal(signal.SIGTERM)
        status = await process.wait()
        del self._processes[number]
        self._board.clear(number)
        for tell in self.on_end:
            tell(number)
        return status, process.ready

    async def _start(self, number: int) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        try:
            handover = Handover(
                number=number,
                count=self.count,
                settings=to_hand_down(self.settings),
                sockets=[each.fileno() for each in self._sockets],
                channel=theirs.fileno(),
                board=self._board_file,
                cache=self._cache_file,
                weights=None if self._weights is None else str(self._weights),
            )
            return await start(handover, self.handlers, ours)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()

    async def _is_listening(self, number: int, argument: dict[str, str]) -> None:
        """Answer `listening`, which a worker says as soon as it takes connections."""
        self._processes[number].listening = True
        if not self._has_listened:
            self._has_listened = True
            url, names = argument["url"], argument["loading"]
            log.info("running on %s, %d workers, loading %s (Ctrl-C ends it)", url, self.count, names)

    async def _is_ready(self, number: int, _: object) -> None:
        """Answer `ready`; the worker takes connections from then on."""
        process = self._processes[number]
        if self.on_ready is not None:
            await self.on_ready(number)
        process.ready = True  # it alone: by now another may have its number
        if not self._is_complete:
            self._is_complete = True
            for other in range(1, self.count):
                self._keep(other)

    async def _watch(self) -> None:
        """End workers whose event loop hangs. Counts looks, not seconds: the machine may have been stopped."""
        while True:
            await asyncio.sleep(LOOK_S)
            for number, process in self._processes.items():
                beat = self._board.get(number, Field.BEAT)
                if process.seems_stuck(beat, round(STUCK_S / LOOK_S), round(FIRST_BEAT_S / LOOK_S)):
                    failed = f"answered for {STUCK_S:g} s" if beat else f"begun to listen within {FIRST_BEAT_S:g} s"
                    log.error("worker %d has not %s, and is killed", number, failed)
                    process.send_signal(signal.SIGKILL)

    def _hang_up(self) -> None:
        if self.on_hangup is not None:
            self._spawn(self.on_hangup())

    def _stop(self) -> None:
        """End the service; a second time, at once."""
        if self._board.phase is not Phase.SERVING:
            return self._end_all(Phase.ENDING, LATE_S)
        drain_s = self.settings.drain_s
        log.info("draining for at most %g s; a second signal ends it at once", drain_s)
        return self._end_all(Phase.DRAINING, drain_s + LATE_S)

    def _fail(self, reason: str, status: int) -> None:
        """End with an exit code other than 0, so that an orchestrator starts the service again."""
        log.critical("%s", reason)
        self._status = status
        if self._board.phase is Phase.SERVING:
            self._end_all(Phase.DRAINING, self.settings.drain_s + LATE_S)

    def _end_all(self, phase: Phase, within_s: float) -> None:
        self._board.phase = phase
        self._told_to_end.set()
        for each in self._sockets:
            each.close()  # the workers have theirs
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(within_s, self._kill_all)

    def _kill_all(self) -> None:
        for number, process in self._processes.items():
            log.error("worker %d has not ended in time, and is killed", number)
            process.send_signal(signal.SIGKILL)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _share_cache(settings: Settings) -> int | None:
    """The memory of the cache, mapped once to see that the workers can, and not yet taken."""
    if not settings.cache_bytes:
        return None
    try:
        descriptor = shared_memory.create("sightword-cache", settings.cache_bytes)
        shared_memory.attach(descriptor).close()
    except OSError as error:
        reason = f"{settings.cache_bytes} bytes cannot be shared by workers ({error.strerror}); take less"
        raise SettingsError(f"{PREFIX}CACHE_BYTES (--cache-bytes): {reason}") from None
    return descriptor
