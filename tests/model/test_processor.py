"""How many cores a process may use: those that it may run on, and no more than its control group pays for."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.runtime.processor import quota_cores, usable_cores

V1 = "4:memory:/a\n3:cpu,cpuacct:/docker/c0ffee\n1:name=systemd:/\n"
V2 = "0::/system.slice/sightword.service\n"


def groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "ascii")
    (folder / "own").write_text(own, "ascii")
    return folder, folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 2, id="version 2"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, math.inf, id="version 2, none"),
        pytest.param(V2, {"system.slice/sightword.service/cpu.max": "150000 100000\n"}, 1.5, id="a service of systemd"),
        pytest.param(
            V2,
            {"system.slice/cpu.max": "50000 100000\n", "system.slice/sightword.service/cpu.max": "max 100000\n"},
            0.5,
            id="that of the group around it",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
            id="version 1, in a container that sees the host's name of its group",
        ),
        pytest.param(
            V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf, id="version 1, none"
        ),
        pytest.param(V1 + V2, {"cpu.max": "nonsense"}, math.inf, id="nonsense"),
        pytest.param("", {}, math.inf, id="no groups"),
    ],
)
def test_the_quota_is_read(tmp_path: Path, own: str, files: dict[str, str], cores: float) -> None:
    assert quota_cores(*groups(tmp_path, own, files)) == cores


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A control group of this machine that pays for half a core."""
    mounted = Path("/sys/fs/cgroup")
    first = mounted / "cpu" if (mounted / "cpu").is_dir() else mounted
    group = first / f"sightword-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("50000 100000")
        elif (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        else:
            pytest.skip("the control groups of this machine do not ration cores")
        yield group
    finally:
        group.rmdir()


def test_a_process_in_a_real_group_counts_what_it_is_given(half_a_core: Path) -> None:
    """Made as a container's is: the process is put into the group, and then asks."""
    program = (
        f"import os; open({str(half_a_core / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from model.runtime.processor import quota_cores, usable_cores\n"
        "print(quota_cores(), usable_cores(), len(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    quota, usable, _ = done.stdout.split()
    assert (float(quota), int(usable)) == (0.5, 1)


def test_never_none_and_never_more_than_it_may_run_on() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
