"""`python -m sightword` is the command `sightword`, where its script is not on the path."""

from __future__ import annotations

from importlib.util import find_spec

from sightword.shadowed import refuse_shadowed

if find_spec("sightword.command") is None:
    raise SystemExit(
        "The command comes with the whole of Sightword, and only its client is installed: uninstall sightword-client, "
        'then pip install "sightword[cpu]" (in a clone: pip install -e ".[cpu]")'
    )
refuse_shadowed("model", "service")

from model.requirements import needs  # noqa: E402

with needs("cpu"):
    from sightword.command.main import app, main

__all__ = ["app"]

if __name__ == "__main__":
    main()
