"""What the models served are called: their ids, the aliases of the settings, and names of published models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from model.bundle import Bundle
from model.manifest import BundleError
from model.suggestions import did_you_mean
from service.errors import ApiError
from service.published_names import published_id

MAX_SUGGESTED = 200  # characters of a name that are compared with others


class ModelNames:
    """Finds models by the names that clients may use."""

    def __init__(self, aliases: Mapping[str, str]) -> None:
        """`aliases` are further names, each with the id or the published name that it stands for."""
        self._aliases = aliases

    def find(self, name: str, bundles: Sequence[Bundle]) -> int:
        """The index of the model that is meant. Raises `model_not_found`, with the names there are."""
        ids = [bundle.id for bundle in bundles]
        asked = self._aliases.get(name, name)
        found = asked if asked in ids else published_id(asked, bundles)
        if found is not None:
            return ids.index(found)
        near = did_you_mean(name[:MAX_SUGGESTED], [*ids, *self._aliases], most=1)
        served = f"{near} There is" if near else "there is"
        message = f"No model of this name is served here; {served} {', '.join(ids)}."
        raise ApiError("model_not_found", message, "model")

    def aliases_of(self, bundle: Bundle, bundles: Sequence[Bundle]) -> list[str]:
        """The further names of one of `bundles`."""
        return [alias for alias, name in self._aliases.items() if bundle.id in (name, published_id(name, bundles))]

    def check(self, bundles: Sequence[Bundle]) -> None:
        """Raise BundleError for two of one id, and for an alias of a model that is not there, or that is an id."""
        ids = [bundle.id for bundle in bundles]
        for name in ids:
            if ids.count(name) > 1:
                raise BundleError(f"two of the bundles are called {name}: clients could not tell them apart")
        for alias, name in self._aliases.items():
            if name not in ids and published_id(name, bundles) is None:
                guess = did_you_mean(name, ids, most=1) or f"there is {', '.join(ids)}"
                raise BundleError(f"SIGHTWORD_MODEL_ALIASES: {alias} is to be {name}, which is not served: {guess}")
            if alias in ids:
                raise BundleError(f"SIGHTWORD_MODEL_ALIASES: {alias} is the id of a model that is served")
