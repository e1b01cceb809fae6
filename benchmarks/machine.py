"""What a benchmark ran on: for its report."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import onnxruntime as ort
import psutil

from model import __version__
from model.runtime.processor import cpu_info, usable_cores

PACKAGES = ("numpy", "pillow", "orjson", "uvicorn", "fastapi")


def machine() -> dict[str, int | float | str]:
    """Cores, processor, memory, system and versions."""
    return {
        "cores": usable_cores(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "sightword": __version__,
        "commit": _commit(),
        "onnxruntime": ort.__version__,  # installed under a name of its own for each kind of device
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    if not (info := cpu_info()):
        return platform.processor()
    # A virtual machine may hide the name; family and model tell one generation from the next.
    return f"{info.get('model name', 'unknown')} (family {info.get('cpu family', '?')}, model {info.get('model', '?')})"


def _commit() -> str:
    """With a + where files differ from it."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
