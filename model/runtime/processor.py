"""The processor of this machine, as Linux describes it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_info() -> dict[str, str]:
    """The fields of the first core in /proc/cpuinfo, such as `model name` and `flags`; empty on other systems."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def processor_name() -> str:
    """The model of the processor, or what the system knows of it."""
    return cpu_info().get("model name") or platform.processor() or platform.machine()


def multiplies_bf16() -> bool:
    """Whether it does (avx512_bf16, amx_bf16; bf16 on ARM): OpenVINO would imitate it, more slowly."""
    info = cpu_info()
    flags = info.get("flags", info.get("Features", ""))
    return any(flag.endswith("bf16") for flag in flags.split())


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
