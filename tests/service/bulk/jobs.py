"""Jobs as their users run them, in a process of their own, and pictures for them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from benchmarks.service_process import clean_environment
from tests.service.pictures import FILES

ROOT = Path(__file__).parents[3]
START_S = 120.0
COMPARED = ("part-*", "img_emb/*", "text_emb/*", "metadata/*", "_errors.jsonl")


@dataclass(frozen=True)
class Ended:
    """What a job left."""

    code: int
    told: str  # on standard error


def start(*arguments: object, program: tuple[str, ...] = ("service", "bulk"), **settings: str) -> subprocess.Popen[str]:
    """`python -m service bulk` with these arguments, in batches of a size that is not measured."""
    environment = clean_environment({"max_batch": "8", **settings})
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", *program, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment)


def job(*arguments: object, program: tuple[str, ...] = ("service", "bulk"), **settings: str) -> Ended:
    """Such a job, when it has ended."""
    process = start(*arguments, program=program, **settings)
    return _wait(process)


def _wait(process: subprocess.Popen[str]) -> Ended:
    try:
        _, told = process.communicate(timeout=START_S)
    finally:
        process.kill()  # what has ended already is not meant
    return Ended(process.returncode, told)


def end_after(process: subprocess.Popen[str], folder: Path, parts: int, number: signal.Signals) -> Ended:
    """Send the signal as soon as the folder has so many parts."""
    until = time.monotonic() + START_S
    while len(list(folder.glob("part-*.parquet"))) < parts and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.002)
    process.send_signal(number)
    return _wait(process)


def pictures(folder: Path, count: int) -> Path:
    """Photographs of few pixels, each another one."""
    folder.mkdir()
    originals = []
    for name in ("astronaut", "cat", "coffee", "rocket"):
        with Image.open(FILES[name]) as image:
            originals.append(image.convert("RGB").resize((128, 96)))
    for index in range(count):
        file = io.BytesIO()
        originals[index % len(originals)].rotate(index, expand=True).save(file, "JPEG")
        (folder / f"{index:04}.jpg").write_bytes(file.getvalue())
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    """Of all parts of a folder, in order."""
    return [row for file in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(file).to_pylist()]


def files(folder: Path) -> dict[str, bytes]:
    """What a job leaves for its user, by name."""
    found = {file for pattern in COMPARED for file in folder.glob(pattern)}
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def errors(folder: Path) -> list[dict[str, str]]:
    """The lines of the side file."""
    file = folder / "_errors.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
