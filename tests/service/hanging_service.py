"""The real service; while FIFO exists, whatever opens a file below FOLDER waits for a writer that never comes.

python -m tests.service.hanging_service FIFO FOLDER [flags of the service]
"""

from __future__ import annotations

import os
import sys
from functools import partial
from io import BufferedReader
from pathlib import Path

import model.bundle
import model.files
import service.keys
import service.models
from service.__main__ import app

fifo, folder = Path(sys.argv.pop(1)), sys.argv.pop(1)
open_regular_file = model.files.open_regular_file


def hanging(path: Path, *, follow_links: bool = True) -> BufferedReader:
    if str(path).startswith(folder) and fifo.exists():
        os.close(os.open(fifo, os.O_RDONLY))  # as a file system that has gone: in the system call, for ever
    return open_regular_file(path, follow_links=follow_links)


for module in (model.files, model.bundle):
    module.open_regular_file = hanging  # type: ignore[attr-defined]
service.models.STALL_S = 1.0
service.models.RELOAD_WAIT_S = 0.2
service.keys.Keys = partial(service.keys.Keys, read_timeout_s=1.0)  # type: ignore[misc, assignment]
app()
