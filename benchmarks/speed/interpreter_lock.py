"""What the threads of a Python process cost: CPU time of each, and how long each holds the interpreter's lock."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import orjson

SAMPLES_S = 400
_THREAD = re.compile(r"thread \((\w+)\)")
_ERRORS = re.compile(r"Errors: (\d+)")
PY_SPY = Path(sys.executable).parent / "py-spy"  # a development dependency


class ThreadTime(NamedTuple):
    """Seconds that a thread was on a core, and that it waited for one though it could have gone on."""

    cpu_s: float
    waited_s: float

    def since(self, before: ThreadTime) -> ThreadTime:
        """What has come since then."""
        return ThreadTime(self.cpu_s - before.cpu_s, self.waited_s - before.waited_s)

    @property
    def on_core(self) -> float:
        """The part of the time, in which it could have gone on, that it did; 1 if there was none."""
        return self.cpu_s / sum(self) if sum(self) else 1.0


def thread_times(pid: int) -> dict[int, ThreadTime]:
    """By thread id, since each began; Linux only. The thread of the event loop is the one called as the process is."""
    times = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            on_core, waited, _ = (folder / "schedstat").read_text("ascii").split()
        except OSError:  # it has ended
            continue
        times[int(folder.name)] = ThreadTime(int(on_core) / 1e9, int(waited) / 1e9)
    return times


async def thread_names(pid: int) -> dict[int, str]:
    """Python's own names, by thread id."""
    dumped = await _py_spy("dump", "--json", "--pid", str(pid))
    return {thread["os_thread_id"]: thread["thread_name"] or "" for thread in orjson.loads(dumped)}


async def held_shares(pid: int, seconds: int) -> Mapping[int, float]:
    """The share of so many seconds in which each thread held the lock, by thread id; sampled from outside.

    The process is not stopped for it. Raises RuntimeError where this user may not look into the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "held.txt"
        told = await _py_spy(
            "record", "--gil", "--threads", "--nonblocking", "--pid", str(pid), "--rate", str(SAMPLES_S),
            "--duration", str(seconds), "--format", "raw", "--output", str(file),
        )  # fmt: skip
        found = _ERRORS.search(told)
        if found is None:
            raise RuntimeError(f"py-spy gave no summary: {told[-500:]}")
        samples = SAMPLES_S * seconds - int(found[1])  # those of a stack that changed while it was read are lost
        held: defaultdict[int, int] = defaultdict(int)
        for line in file.read_text("utf-8").splitlines():
            stack, _, count = line.rpartition(" ")
            if (thread := _THREAD.search(stack)) is not None:
                held[int(thread[1], 0)] += int(count)
    return {thread: count / samples for thread, count in held.items()}


async def _py_spy(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(PY_SPY), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"py-spy {arguments[0]} failed: {told.decode()[-500:]}")
    return told.decode()
