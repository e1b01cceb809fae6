"""A member process on a GPU that it shares with others: python -m tests.service.gpu_member_process FOLDER DESCRIPTOR.

Models are computed on the CPU. Each that is open holds its weights and `WORKING_BYTES`, by a file in FOLDER, where the
file `total` says how many bytes the GPU has.
"""

from __future__ import annotations

import os
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import service.device_memory
import service.opening
from model.bundle import Bundle
from model.manifest import WEIGHTS
from model.runtime.device_memory import DeviceMemory
from model.runtime.engine import Engine
from tests.service.member_process import main

WORKING_BYTES = 100_000_000
folder = Path(sys.argv[1]) if __name__ == "__main__" else Path()  # of no meaning where this is only imported


class EngineOnGpu(Engine):
    def __init__(self, bundle: Bundle, *_: Any, **__: Any) -> None:
        super().__init__(bundle, "cpu")
        file = folder / f"{os.getpid()}-{id(self)}"
        unseen = folder / f"{os.getpid()}.unseen"  # as it may be read at any moment
        unseen.write_text(str(bundle.manifest.files[WEIGHTS].bytes + WORKING_BYTES))
        unseen.rename(file)
        self._release = weakref.finalize(self, file.unlink)

    def close(self) -> None:
        super().close()
        self._release()


def memory(_: int) -> DeviceMemory:
    held = 0
    for file in folder.glob("*-*"):
        with suppress(FileNotFoundError):  # closed just now
            held += int(file.read_text())
    total = int((folder / "total").read_text())
    return DeviceMemory(total, total - held)


if __name__ == "__main__":
    service.opening.Engine = EngineOnGpu  # type: ignore[attr-defined]
    service.device_memory.choose = lambda provider: ["cuda"]  # type: ignore[attr-defined]
    service.device_memory.read_device_memory = memory  # type: ignore[attr-defined]
    main()
