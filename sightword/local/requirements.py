"""What a model in this process needs, and how to get it. Imports nothing that may be missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sightword.errors import MissingDependencyError

INSTALL = 'pip install "sightword[cpu]", or in a clone of the repository: pip install -e ".[cpu]"'


@contextmanager
def needs_runtime() -> Iterator[None]:
    """Within it, `model` and onnxruntime are imported. Raises MissingDependencyError."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "sightword"):  # a mistake of ours
            raise
        raise MissingDependencyError(_message(missing)) from error


def _message(missing: str) -> str:
    if missing != "model":
        return f"{missing} is not installed, and a model without a service needs it: {INSTALL}"
    if other := getattr(sys.modules.get("model"), "__file__", None):
        return f"{other} stands in the way of Sightword's package `model`: rename it, or start elsewhere."
    return f"Without a service, the whole of Sightword is needed, and only its client is installed: {INSTALL}"
