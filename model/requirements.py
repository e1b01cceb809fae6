"""What to install where a module is missing, as exact commands. Imports nothing that could itself be missing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

TORCH: Final = "torch==2.13.0"  # before the rest: other packages would accept, and fetch, any newer build of it
WITH_TORCH = ("convert", "convert-all", "training", "dev")
# Which open_clip and timm import. It works only with the torch that it was built for: its release and its build.
TORCHVISION: Final = "torchvision==0.28.0"
WITH_TORCHVISION = ("convert-all",)
TOGETHER = {"dev": "training,tracing,dev"}  # extras that are of use together only
ROOT = Path(__file__).parents[1]  # of the checkout, where there is one
CONSTRAINTS = "constraints.txt"  # which only a checkout has
OURS = ("model", "service", "training", "sightword", "benchmarks")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Within it, what the optional dependencies `extra` hold may be imported; ends with how to install what is missing.

    Raises SystemExit with that message, which makes the exit code 1.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in OURS:  # a mistake of ours
            raise
        raise SystemExit(how_to_install(missing, extra)) from None


def how_to_install(missing: str, extra: str) -> str:
    """The message for a module that is not there: what it belongs to, and the commands, torch first."""
    lines = [f"{missing} is not installed, and this command needs it. It comes with the extra `{extra}`:", ""]
    commands = [f"  {command}" for command in install_commands(extra)]
    return "\n".join([*lines, *commands, *_same_build(extra), *_other_python()])


def install_commands(extra: str) -> list[str]:
    """For this Python: in a checkout as the Makefile does it, elsewhere from a package index."""
    extras = TOGETHER.get(extra, extra)
    if extra != "cpu" and not _is_here("onnxruntime"):  # one of its builds, which may be that for GPUs
        extras = f"cpu,{extras}"
    pip = f"{sys.executable or 'python'} -m pip install"
    if (ROOT / CONSTRAINTS).is_file():
        pip += f" --constraint {CONSTRAINTS if _is_at_root() else ROOT / CONSTRAINTS}"
    before = [TORCH] if extra in WITH_TORCH and not _is_here("torch") else []
    if extra in WITH_TORCHVISION and not _is_here("torchvision"):
        before.append(TORCHVISION + _build_of_torch())
    first = [f"{pip} {' '.join(before)}"] if before else []
    return [*first, f"{pip} {_this_project(extras)}"]


def pip_install(extra: str) -> str:
    """The shortest such command, for a sentence."""
    return f"pip install {_this_project(extra)}"


def _this_project(extras: str) -> str:
    """What pip is to install: the checkout that this is, or again what was installed, in most cases from an index."""
    if (ROOT / CONSTRAINTS).is_file():
        return f'--editable "{"." if _is_at_root() else ROOT}[{extras}]"'
    source = _installed_from()
    return f'"sightword[{extras}]{" @ " if source else ""}{source}"'


def _installed_from() -> str:
    """The URL of the wheel, folder or repository that was installed, as pip records it (PEP 610); none for an index."""
    try:
        record = json.loads(distribution("sightword").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    url: str = record.get("url", "")
    if url.startswith("file:") and not Path(url2pathname(urlsplit(url).path)).exists():
        return ""
    repository = record.get("vcs_info")
    return f"{repository['vcs']}+{url}@{repository['commit_id']}" if repository else url


def _is_at_root() -> bool:
    try:
        return Path.cwd() == ROOT
    except OSError:  # a folder that is no more
        return False


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _build_of_torch() -> str:
    """`+cpu` or `+cu130`, as the version of the torch that is here ends with, if it came from an index of its own."""
    try:
        return "".join(version("torch").partition("+")[1:])
    except PackageNotFoundError:
        return ""


def _same_build(extra: str) -> list[str]:
    """What has to be known where torch is not the index's own, and torchvision is to fit it."""
    if extra not in WITH_TORCHVISION or _is_here("torchvision"):
        return []
    build = _build_of_torch()
    source = f"Your torch is a build {build}: take torchvision" if build else "Take torch and torchvision"
    return [
        "",
        f"{source} from one index, that of its build (pip's option --index-url): builds for CPU and GPU do not mix.",
    ]


def _other_python() -> list[str]:
    """`make` installs into an environment of its own, which may not be the one that was called."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists() or Path(sys.prefix).resolve() == (ROOT / ".venv").resolve():
        return []
    return ["", f"`make` installs into {ROOT / '.venv'}, which is not the Python that was called: try {python}"]
