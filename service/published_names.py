"""Which of the models served is meant by the name of a published model, however that is written."""

from __future__ import annotations

from collections.abc import Sequence

from model.bundle import Bundle
from model.hub.names import find_known


def published_id(name: str, bundles: Sequence[Bundle]) -> str | None:
    """The id of the first of `bundles` that was pulled as `name`, or as the same in another spelling; None if none was.

    `ViT-B-32__openai` is the model that was pulled as `ViT-B-32`, and never another one that has this id.
    """
    pulled = {bundle.id: _pulled_as(bundle) for bundle in bundles}
    if not any(pulled.values()):
        return None
    known = find_known(name)
    wanted = known.name if known else name  # as it is, of the hub's repositories
    return next((identity for identity, each in pulled.items() if each == wanted), None)


def _pulled_as(bundle: Bundle) -> str | None:
    """As `python -m model pull` wrote it; nothing is promised of `source`."""
    published = bundle.manifest.source.get("published")
    name = published.get("name") if isinstance(published, dict) else None
    return name if isinstance(name, str) else None
