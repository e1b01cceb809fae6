"""The memory of the GPU that models are on: what is free, and whether another model fits beside the one that serves."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future

from model.bundle import Bundle
from model.manifest import WEIGHTS
from model.runtime.device_memory import DeviceMemory, read_device_memory
from model.runtime.engine import EngineError
from model.runtime.gpu import GpuError
from model.runtime.providers import NVIDIA, PROVIDERS, choose
from service.threads import start

log = logging.getLogger(__name__)
READ_S = 1.0  # usually some microseconds
MB = 1_000_000


class DeviceMemoryReader:
    """Reads the memory of the GPU of that number, where `provider`, as the setting names it, may use one."""

    def __init__(self, provider: str, device: int = 0) -> None:
        self._provider, self._device = provider, device
        self._reading: Future[DeviceMemory | None] | None = None
        self._failed = False

    def read(self) -> DeviceMemory | None:
        """For a thread: total and free bytes; None where no GPU is used, or its driver does not say."""
        if not self.may_use_gpu():
            return None
        try:
            return read_device_memory(self._device)
        except GpuError as error:
            if not self._failed:  # /metrics asks again and again
                log.warning("the memory of the GPU cannot be read: %s", error)
            self._failed = True
            return None

    async def current(self) -> DeviceMemory | None:
        """The same, from the event loop; None, too, where the driver takes its time. One reading at once."""
        if self._failed or not self.may_use_gpu():
            return None
        if self._reading is None:
            self._reading = start(self.read)
        done, _ = await asyncio.wait([asyncio.wrap_future(self._reading)], timeout=READ_S)
        if not done:
            return None
        self._reading = None
        return done.pop().result()

    def may_use_gpu(self) -> bool:
        """Whether models may be on a GPU."""
        return any(PROVIDERS[key] in NVIDIA for key in choose(self._provider))


def refuse_without_room(
    bundle: Bundle, served: Bundle, taken_bytes: int, memory: DeviceMemory, copies: int = 1
) -> None:
    """Raise EngineError if `bundle` will not fit beside `served`, which has taken so many bytes when it was opened.

    Needed are its weights, and what the one served needs beside its own: for activations and libraries; and that for
    each of so many `copies`, of which none has been opened yet; with 0, nothing is refused.
    """
    weights, beside = _weights(bundle), max(0, taken_bytes - _weights(served))
    if copies * (weights + beside) > memory.free:
        of_each = f" in each of {copies} workers" if copies > 1 else ""
        raise EngineError(
            f"{bundle.id} needs about {(weights + beside) // MB} MB of the GPU's memory{of_each} beside the model that "
            f"serves ({weights // MB} MB for its weights, {beside // MB} MB to run), and {memory.free // MB} of "
            f"{memory.total // MB} MB are free: end what else is on it, or start the service anew with this model"
        )


def _weights(bundle: Bundle) -> int:
    return bundle.manifest.files[WEIGHTS].bytes
