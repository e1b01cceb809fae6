"""A file of somebody else's named like a package of ours, which `python -m` finds first. Imports nothing of ours.

Every package that is a program holds this file: to import it, the others would use a name that may be shadowed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def refuse_shadowed(*packages: str) -> None:
    """End the program if one of these top-level packages is not the one beside ours, and say which file is instead."""
    ours = Path(__file__).resolve().parents[1]
    for package in packages:
        spec = find_spec(package)
        if spec is None:  # an installation in pieces; the import says so
            continue
        found = [Path(folder).resolve() for folder in spec.submodule_search_locations or [spec.origin or package]]
        if ours / package not in found:
            raise SystemExit(_explain(package, found[0]))


def _explain(package: str, found: Path) -> str:
    program = Path(__file__).parent.name
    here = found.parent == Path.cwd().resolve()
    way_out = (
        f"`python -m` looks into the current folder first. Use `python -P -m {program}`, which does not, or start from "
        "another folder; the command `sightword` never looks there."
        if here
        else "It comes first in sys.path (see PYTHONPATH): install Sightword into an environment of its own."
    )
    return f"{found} is in the place of Sightword's own package `{package}`. {way_out}"
