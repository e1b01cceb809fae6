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
    except ImportError as error:
        other = sys.modules.get("model")
        if other is not None and not hasattr(other, "__path__"):
            raise MissingDependencyError(
                f"{other.__file__} stands in the way of Sightword's package `model`: rename it, or start elsewhere."
            ) from error
        missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if missing in ("", "sightword") or (missing == "model" and other is not None):  # a mistake of ours
            raise
        raise MissingDependencyError(_message(missing)) from error


def _message(missing: str) -> str:
    if missing == "model":
        return f"Without a service, the whole of Sightword is needed, and only its client is installed: {INSTALL}"
    return f"{missing} is not installed, and a model without a service needs it: {INSTALL}"
