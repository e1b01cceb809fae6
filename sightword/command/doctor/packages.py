"""Python, what is installed of what Sightword needs, and builds of onnxruntime that are over each other."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path

from model.requirements import pip_install
from sightword import __version__
from sightword.command.doctor.finding import Finding, fail, ok, warn

OLDEST_PYTHON = (3, 11)
# All of them install the same module, `onnxruntime`: of two, the files are a mixture.
RUNTIMES = {
    "onnxruntime": "cpu", "onnxruntime-gpu": "gpu", "onnxruntime-openvino": "openvino", "onnxruntime-directml": "cpu",
    "onnxruntime-qnn": "cpu", "onnxruntime-rocm": "gpu",
}  # fmt: skip
OURS = ("model", "service", "training", "sightword")


def check_packages() -> Iterator[Finding]:
    """Imports none of them."""
    yield _python()
    yield ok("sightword", f"{__version__} in {Path(__file__).parents[3]}")
    yield _runtime()
    yield _requirements()
    yield from _shadowing()


def _python() -> Finding:
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return fail("python", seen, "use Python 3.11 or newer")
    return ok("python", seen)


def _runtime() -> Finding:
    found = {name: found for name in RUNTIMES if (found := _version(name))}
    seen = ", ".join(f"{name} {each}" for name, each in found.items())
    if not found:
        return fail("onnxruntime", "no build of it is installed", pip_install("cpu"))
    if len(found) > 1:
        kept = next((RUNTIMES[name] for name in found if RUNTIMES[name] != "cpu"), "cpu")
        return fail(
            "onnxruntime",
            f"{seen}: all are the same module, and which files of which are there is chance",
            f"pip uninstall --yes {' '.join(found)}, then {pip_install(kept)}",
        )
    return ok("onnxruntime", seen)


def _requirements() -> Finding:
    """The packages of every installation, and whether their versions are admitted."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return warn("packages", "their versions cannot be compared", "pip install packaging")
    try:
        wanted = [Requirement(text) for text in requires("sightword") or ()]
    except PackageNotFoundError:
        return warn("packages", "Sightword is on the path, but not installed", pip_install("cpu"))
    needed = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = []
    for each in needed:
        found = _version(each.name)
        if found is None or not each.specifier.contains(found, prereleases=True):
            wrong.append(f"{each.name} is {found or 'missing'}, wanted {each.specifier or 'any'}")
    if wrong:
        return fail("packages", "; ".join(wrong), pip_install("cpu"))
    return ok("packages", f"{len(needed)} of the versions that are admitted")


def _shadowing() -> Iterator[Finding]:
    """What `python -m service`, started here, would import instead of ours."""
    root = Path(__file__).resolve().parents[3]
    here = Path.cwd()
    if here.resolve() == root:
        return
    for name in OURS:
        for found in (here / f"{name}.py", here / name / "__init__.py"):
            if found.is_file():
                yield warn(
                    "shadowing",
                    f"{found} is imported by `python -m` in this folder instead of Sightword's `{name}`",
                    "use the command `sightword`, or python -P -m",
                )


def _version(name: str) -> str | None:
    try:
        distribution(name)
        return version(name)
    except PackageNotFoundError:
        return None
