"""The processor of this machine, as Linux describes it."""

from __future__ import annotations

import math
import os
import platform
from contextlib import suppress
from pathlib import Path

_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


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


_shares = (0, 1)  # which part of the cores is this process', of how many


def divide_cores(number: int, parts: int) -> None:
    """Have this process count as its own one part, the `number`th from 0, of the cores that it may use.

    For several processes that do the same on one machine; none is bound to certain cores.
    """
    global _shares
    _shares = (number, parts)


def limit_cores(cores: float) -> None:
    """Have this process count about so many cores as its own, of those that it may use; none is bound."""
    divide_cores(0, max(1, round(usable_cores() / cores)))


def usable_cores() -> int:
    """How many cores this process may use: of those it may run on, its share of what its control group pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    number, parts = _shares
    cores = math.ceil(min(cores, quota_cores()))
    return max(1, cores // parts + (number < cores % parts))


def quota_cores(mounted: Path = _GROUPS, own: Path = _OWN_GROUPS) -> float:
    """The cores that the kernel pays this process for, by the least quota of the control groups that it is in.

    `docker run --cpus=2` and Kubernetes' limits set one, and hide no cores: as many threads as cores would use up the
    time of a period in a part of it, and then all stand still until the next. Infinite where there is none.
    """
    try:
        lines = own.read_text("utf-8", "replace").splitlines()
    except OSError:  # not Linux
        return math.inf
    quotas = [math.inf]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if not controllers or "cpu" in controllers.split(","):
            root = mounted / "cpu" if controllers else mounted  # of version 1, and of version 2
            group = Path(path.lstrip("/"))  # in a container perhaps the host's name of it, which is not there
            quotas += [_quota(root / each) for each in (group, *group.parents)]
    return min(quotas)


def _quota(group: Path) -> float:
    """The cores of one control group: microseconds of them in a period, over its microseconds."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):  # of version 2, and of version 1
        with suppress(OSError, ValueError):  # "max" is none
            numbers = [int(number) for name in names for number in (group / name).read_text("ascii").split()]
            if len(numbers) == 2 and min(numbers) > 0:  # -1 is none
                return numbers[0] / numbers[1]
    return math.inf
