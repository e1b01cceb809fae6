"""python -m benchmarks.gpu_check.section MODULE DEVICE FILE [--quick]: one section, which writes to FILE."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.gpu_check.findings import Findings, Options


def main() -> None:
    """Run it in the folder that FILE is in; what it raises ends the process."""
    module, device, file, *flags = sys.argv[1:]
    options = Options(device, "--quick" in flags, Path(file).parent)
    importlib.import_module(module).run(options, Findings(Path(file)))


if __name__ == "__main__":
    main()
