"""Label sets in memory: for as long as the model is open."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from model.bundle import Bundle
from model.own_labels import LABEL_SET, OwnLabels
from model.zeroshot import default_templates
from sightword.errors import InvalidRequestError, LabelSetNotFoundError
from sightword.local.zero_shot import check_labels, choose_templates
from sightword.protocol import string_list
from sightword.results import LabelSet

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
Embed = Callable[[Sequence[str], Sequence[str], bool], object]  # labels, templates, truncate


class LocalLabelSets:
    """With the calls of `LabelSets`."""

    def __init__(self, embed: Embed, bundle: Bundle, own: OwnLabels | None) -> None:
        """`embed` is called with each one that is put: nothing is kept that cannot be used. `own` are the model's."""
        self._embed, self._bundle = embed, bundle
        self._own = {} if own is None else {LABEL_SET: LabelSet(LABEL_SET, [*own.labels], [*default_templates(bundle)])}
        self._stored: dict[str, tuple[LabelSet, bool]] = {}

    def put(
        self,
        name: str,
        labels: Iterable[str],
        *,
        templates: Iterable[str] | None = None,
        template_set: str | None = None,
        truncate: bool | None = None,
    ) -> LabelSet:
        """As `LabelSets.put`."""
        if not NAME.fullmatch(name):
            raise InvalidRequestError(
                "A name is 1 to 64 letters, digits, dots, underscores and hyphens, and begins with a letter or digit.",
                param="name",
            )
        self._refuse_own(name)
        names = string_list(labels, "labels")
        check_labels(names)
        given = None if templates is None else string_list(templates, "templates")
        chosen = choose_templates(given, template_set, self._bundle)
        self._embed(names, chosen, bool(truncate))
        self._stored[name] = LabelSet(name, names, list(chosen)), bool(truncate)
        return self._stored[name][0]

    def find(self, name: str, param: str) -> tuple[LabelSet, bool]:
        """One of them, and whether its labels may be cut. Raises LabelSetNotFoundError."""
        if name in self._own:
            return self._own[name], False
        try:
            return self._stored[name]
        except KeyError:
            raise LabelSetNotFoundError(
                "There is no label set of this name; label_sets.list() gives those there are.", param=param
            ) from None

    def get(self, name: str) -> LabelSet:
        """As `LabelSets.get`."""
        return self.find(name, "name")[0]

    def delete(self, name: str) -> bool:
        """As `LabelSets.delete`."""
        self._refuse_own(name)
        return self._stored.pop(name, None) is not None

    def list(self) -> list[str]:
        """As `LabelSets.list`."""
        return sorted([*self._stored, *self._own])

    def _refuse_own(self, name: str) -> None:
        if name in self._own:
            raise InvalidRequestError("These are the model's own categories; choose another name.", param="name")
