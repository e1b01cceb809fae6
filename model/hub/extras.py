"""`python -m model.hub.extras NAME...`: which extra the import of these published models needs, for the Makefile.

Needs nothing that is installed: it runs before anything is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from model.hub.errors import HubError
from model.hub.names import published_model

ALL = "convert-all"


def extra_for(names: Iterable[str]) -> str:
    """`convert-all` where one of the models is known to be built by a library, else `convert`."""
    return ALL if any(map(_is_of_a_library, names)) else "convert"


def _is_of_a_library(name: str) -> bool:
    try:
        return published_model(name).extra == ALL
    except HubError:  # which the pull will explain
        return False


if __name__ == "__main__":
    print(extra_for(sys.argv[1:]))
