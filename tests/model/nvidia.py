"""An NVIDIA driver for tests on machines without one: the library that `fake_driver.c` is compiled to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_driver.c")
NAME = "libcuda.so.1"


def compile_driver(folder: Path) -> Path:
    """Compile it into `folder`, or skip the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here for the fake driver")
    library = folder / NAME
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=120)
    return library
