"""A worker process as it sees itself: its number, its row on the board, and its channel to the parent."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service import shared_memory
from service.board import Board, Phase
from service.workers.channel import Channel, ChannelError, Handlers
from service.workers.handover import Handover

log = logging.getLogger(__name__)
BEAT_S = 0.25
LAST_S = 20.0  # after the parent is gone, for what was accepted; then the process ends, also where its event loop hangs


class Worker:
    """What was handed down to this process."""

    def __init__(self, handover: Handover) -> None:
        self.number, self.count = handover.number, handover.count
        self.board = Board(_attach(handover.board), handover.count)
        self.row = self.board.row(handover.number)
        self.cache: mmap.mmap | None = None if handover.cache is None else _attach(handover.cache)
        self.weights = None if handover.weights is None else Path(handover.weights)
        self.sockets = [socket.socket(fileno=descriptor) for descriptor in handover.sockets]
        self._end = socket.socket(fileno=handover.channel)
        for each in (*self.sockets, self._end):  # for this process, and none that it starts
            each.set_inheritable(False)
        self._channel: Channel | None = None

    async def serve(self, handlers: Handlers, parent_gone: Callable[[], None]) -> None:
        """Beat, and answer the parent, until it is gone; `parent_gone` is called then."""
        loop = asyncio.get_running_loop()
        watched = os.dup(self._end.fileno())
        threading.Thread(target=_end_after_parent, args=(watched,), name="parent", daemon=True).start()
        self._channel = Channel(self._end, handlers)
        beating = loop.create_task(self._beat())
        try:
            await self._channel.serve()
        finally:
            beating.cancel()
        if self.board.phase is Phase.SERVING:
            parent_gone()

    async def _beat(self) -> None:
        while True:
            self.row.beat()
            await asyncio.sleep(BEAT_S)

    async def ask_parent(self, what: str, argument: Any = None, timeout_s: float = 10.0) -> Any:
        """The parent's answer. Raises its ApiError, or ChannelError where there is none."""
        if self._channel is None:
            raise ChannelError("this worker is only starting")
        return await self._channel.ask(what, argument, timeout_s)


def _attach(descriptor: int) -> mmap.mmap:
    memory = shared_memory.attach(descriptor)
    os.close(descriptor)
    return memory


def _end_after_parent(channel: int) -> None:
    """End this process some time after the parent, whatever its event loop does."""
    poll = select.poll()
    poll.register(channel, 0)  # which tells only that the other side is closed
    poll.poll()
    threading.Event().wait(LAST_S)
    os._exit(1)
