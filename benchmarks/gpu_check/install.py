"""python -m benchmarks.gpu_check.install ENVIRONMENT WHEELS: onnxruntime-gpu from a folder of wheels, without an index.

The new environment sees what the Python that is called has, torch for instance, and holds onnxruntime-gpu before it:
beside the onnxruntime for CPUs in one folder, each would overwrite the other. Imports nothing that could be missing.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("training",)
TOOLS = ("httpx", "psutil")  # of the extra dev: the rest of it is for tests


def main() -> None:
    """Make the environment anew; exit 1 where onnxruntime-gpu is not in the folder or does not suit this Python."""
    folder, wheels = Path(sys.argv[1]), Path(sys.argv[2])
    print(
        f"a new environment in {folder}, with what {sys.executable} has behind it: a minute, and 1 GB on disk",
        flush=True,
    )
    venv.create(folder, clear=True, symlinks=True)
    inherited = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    own = site_packages(folder)
    lines = [f"import site; site.addsitedir({path!r})" for path in inherited]
    (own / "inherited.pth").write_text("\n".join(lines) + "\n", "utf-8")
    # What CUDA needs may have come with torch, or be in the folder, or with the system.
    if not (pip(folder, wheels, "onnxruntime-gpu[cuda,cudnn]") or pip(folder, wheels, "onnxruntime-gpu")):
        raise SystemExit(f"onnxruntime-gpu could not be installed from {wheels}: put its wheel for this Python there")
    if not pip(folder, wheels, *requirements()):
        print("Not all was found; sections that need more than is here will fail, and say what is missing", flush=True)
    for path in inherited:
        link_libraries(Path(path) / "nvidia", own / "nvidia")


def pip(folder: Path, wheels: Path, *wanted: str) -> bool:
    """Install them into the environment from the folder; whether that succeeded."""
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-index"]
    command += ["--disable-pip-version-check", "--find-links", str(wheels), *wanted]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603


def site_packages(folder: Path) -> Path:
    """Where packages lie in an environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "lib" / version / "site-packages"


def requirements() -> list[str]:
    """What the sections import beside onnxruntime."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [each for name in EXTRAS for each in project["optional-dependencies"][name]]
    return [*project["dependencies"], *extras, *TOOLS]


def link_libraries(there: Path, here: Path) -> None:
    """Show CUDA's libraries, which onnxruntime looks for beside itself only, where those of torch lie elsewhere."""
    if not there.is_dir():
        return
    here.mkdir(exist_ok=True)
    for library in there.iterdir():
        if library.is_dir() and not (here / library.name).exists():
            (here / library.name).symlink_to(library)


if __name__ == "__main__":
    main()
