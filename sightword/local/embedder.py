"""A model in this process, with the calls of a client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, overload

import numpy as np

from model import __version__ as model_version
from model.bundle import Bundle, bundled
from model.hub.errors import HubError
from model.hub.folders import find_bundle
from model.manifest import BundleError
from model.own_labels import LABEL_SET, own_labels
from model.runtime.engine import Engine, EngineError
from model.zeroshot import needs_background, template_sets
from sightword.errors import InvalidRequestError, ModelError, SightwordError
from sightword.items import Item, Items, listed
from sightword.local.class_vectors import ClassVectors
from sightword.local.comparison import Embeddings, compare, stacked
from sightword.local.label_sets import LocalLabelSets
from sightword.local.towers import Named, Towers
from sightword.local.zero_shot import check_labels, choose_templates, predictions
from sightword.plans import OnError, Output, several
from sightword.progress import bar
from sightword.protocol import string_list
from sightword.results import Classification, Embedded, Info, ModelInfo, Ranked, Similarity, Vectors
from sightword.scores import ranking_of, similarity_of

ITEMS_PER_BLOCK = 256  # of an iterator
MIXES_WHOLE_VECTORS = "This model mixes whole vectors for each text; leave this out."


class Local:
    """Embeds and classifies in this process."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """See `sightword.load`."""
        self.bundle, self.engine = bundle, engine
        self._towers = Towers(bundle, engine)
        self._classes = ClassVectors(self._embed_texts, bundle.dimensions)
        self._own = own_labels(bundle.tokenizer(), engine.embed_texts)
        self.label_sets = LocalLabelSets(self._classes.get, bundle, self._own)

    @classmethod
    def open(cls, name: str | None, provider: str) -> Local:
        """Raises ModelError."""
        try:
            bundle = Bundle.load(_folder(name))
            return cls(bundle, Engine(bundle, provider))
        except (BundleError, EngineError, HubError) as error:
            raise ModelError(str(error)) from error

    def __repr__(self) -> str:
        return f"<{self.bundle.id} on {self.engine.provider}>"

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._towers.close()

    @overload
    def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: Literal["fail"] = "fail",
        progress: bool = False,
    ) -> Vectors: ...

    @overload
    def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: Literal["item"],
        progress: bool = False,
    ) -> Embedded: ...

    def embed(
        self,
        items: Items,
        *,
        dimensions: int | None = None,
        truncate: bool | None = None,
        output: Output = "vector",
        on_error: OnError = "fail",
        progress: bool = False,
    ) -> Vectors | Embedded:
        """As `Client.embed`."""
        if on_error not in ("fail", "item"):
            raise ValueError(f'on_error is "fail" or "item", not {on_error!r}')
        tokens = several(output) is not None
        self._check_dimensions(dimensions, tokens)
        embedded = self._embed(_named(items), bool(truncate), on_error, progress, _length(items), tokens)
        vectors = _reduce(embedded.vectors, dimensions)
        if tokens:
            vectors = stacked(embedded, vectors)
        return vectors if on_error == "fail" else Embedded(vectors, embedded.errors)

    def embed_iter(
        self, items: Iterable[Item], *, dimensions: int | None = None, truncate: bool | None = None
    ) -> Iterator[Vectors]:
        """As `Client.embed_iter`."""
        rest, start = iter(listed(items)), 0
        self._check_dimensions(dimensions)
        while block := list(islice(rest, ITEMS_PER_BLOCK)):
            named = [(index, f"inputs.{start + index}", item) for index, item in enumerate(block)]
            yield from _reduce(self._embed(named, bool(truncate), "fail", False, None).vectors, dimensions)
            start += len(block)

    def classify(
        self,
        items: Items,
        labels: Iterable[str] | None = None,
        *,
        label_set: str | None = None,
        templates: Iterable[str] | None = None,
        template_set: str | None = None,
        top_k: int | None = None,
        multi_label: bool = False,
        threshold: float | None = None,
        truncate: bool | None = None,
        on_error: OnError = "fail",
        progress: bool = False,
    ) -> list[Classification]:
        """As `Client.classify`."""
        if top_k is not None and top_k < 1:
            raise InvalidRequestError("This is at least 1.", param="top_k")
        names, classes = self._classes_of(
            labels, label_set, templates, template_set, needs_background(self.bundle, multi_label), bool(truncate)
        )
        embedded = self._embed(_named(items), bool(truncate), on_error, progress, _length(items), tokens=True)
        cosine = compare(self.engine, embedded, Embeddings(classes))
        results = predictions(cosine, names, self.bundle, top_k=top_k, multi_label=multi_label, threshold=threshold)
        for index, error in embedded.errors.items():
            results[index] = Classification(None, None, [], error)
        return results

    def similarity(
        self, queries: Items, candidates: Items, *, truncate: bool | None = None, progress: bool = False
    ) -> Similarity:
        """As `Client.similarity`."""
        first = list(listed(queries))
        cosine = self._compare(first, candidates, ("queries", "candidates"), truncate, progress)
        return similarity_of(cosine, self.bundle)

    def rank(
        self,
        query: Item,
        candidates: Items,
        *,
        top_n: int | None = None,
        truncate: bool | None = None,
        progress: bool = False,
    ) -> list[Ranked]:
        """As `Client.rank`."""
        [cosine] = self._compare([query], candidates, ("query", "candidates"), truncate, progress)
        return ranking_of(cosine, self.bundle, top_n)

    def info(self) -> Info:
        """The model; there are no limits."""
        bundle = self.bundle
        model = ModelInfo(
            bundle.id, bundle.digest, bundle.dimensions, bundle.context_length, bundle.image_size, bundle.logit_scale,
            bundle.logit_bias, bundle.precision, self.engine.provider,
            mixture_tokens=None if bundle.mixture is None else bundle.mixture.tokens,
        )  # fmt: skip
        return Info(model_version, [model], {name: list(each) for name, each in template_sets().items()})

    def _embed(
        self,
        items: Iterable[Named],
        truncate: bool,
        on_error: OnError,
        progress: bool,
        total: int | None,
        tokens: bool = False,
    ) -> Embeddings:
        """With `tokens`, all vectors of a picture of a mixture model, which without has an error."""
        rows: dict[int, Vectors] = {}
        errors: dict[int, SightwordError] = {}
        with bar(progress, total, "embed") as advance:
            for index, outcome in self._towers.embed(items, truncate, tokens):
                if not isinstance(outcome, SightwordError):
                    rows[index] = outcome
                elif on_error == "fail":
                    raise outcome
                else:
                    errors[index] = outcome
                advance(1)
        vectors = np.full((len(rows) + len(errors), self.bundle.dimensions), np.nan, np.float32)
        mixed: dict[int, Vectors] = {}
        for index, row in rows.items():
            if row.ndim == 1:
                vectors[index] = row
            else:
                mixed[index] = row
        return Embeddings(vectors, mixed, dict(sorted(errors.items())))

    def _embed_texts(self, items: Iterable[Named], truncate: bool) -> Vectors:
        return self._embed(items, truncate, "fail", False, None).vectors

    def _compare(
        self, first: Sequence[Item], second: Items, names: tuple[str, str], truncate: bool | None, progress: bool
    ) -> Vectors:
        def named() -> Iterator[Named]:
            for index, item in enumerate(first):
                yield index, names[0] if names[0] == "query" else f"{names[0]}.{index}", item
            for index, item in enumerate(listed(second)):
                yield len(first) + index, f"{names[1]}.{index}", item

        embedded = self._embed(named(), bool(truncate), "fail", progress, None, tokens=True)
        count = len(embedded.vectors)
        return compare(self.engine, embedded.part(0, len(first)), embedded.part(len(first), count))

    def _classes_of(
        self,
        labels: Iterable[str] | None,
        label_set: str | None,
        templates: Iterable[str] | None,
        template_set: str | None,
        without_label: bool,
        truncate: bool,
    ) -> tuple[Sequence[str], Vectors]:
        """The labels and their vectors. Raises SightwordError."""
        given = None if templates is None else string_list(templates, "templates")
        chosen = choose_templates(given, template_set, self.bundle)
        if self._own is not None and labels is None and label_set in (None, LABEL_SET):
            return self._own.labels, self._own.vectors
        if (labels is None) == (label_set is None):
            raise InvalidRequestError("Give either labels or label_set.", param="labels")
        if label_set is not None:
            stored, truncates = self.label_sets.find(label_set, "label_set")
            names, truncate = stored.labels, truncate or truncates
            chosen = stored.templates if given is None and template_set is None else chosen
        else:
            names = string_list(labels or (), "labels")
            check_labels(names)
        return names, self._classes.get(names, chosen, truncate, without_label)

    def _check_dimensions(self, dimensions: int | None, tokens: bool = False) -> None:
        most = self.bundle.dimensions
        if tokens and self.bundle.mixture is not None and dimensions not in (None, most):
            raise InvalidRequestError(MIXES_WHOLE_VECTORS, param="dimensions")
        if dimensions is not None and not 1 <= dimensions <= most:
            raise InvalidRequestError(
                f"This model's vectors have {most} dimensions; ask for at most so many.", param="dimensions"
            )


def _folder(name: str | None) -> Path:
    """Of the bundle of that name. Raises HubError, BundleError."""
    if name is None:
        return bundled()
    if Path(name).exists() or name.startswith(("/", "./", "../")):
        return Path(name)
    if (folder := find_bundle(name)) is None:
        raise BundleError(f"{name} is neither a folder nor a model that was pulled: python -m model pull {name}")
    return folder


def _named(items: Items) -> Iterator[Named]:
    for index, item in enumerate(listed(items)):
        yield index, f"inputs.{index}", item


def _length(items: Items) -> int | None:
    every = listed(items)
    return len(every) if isinstance(every, Sequence | np.ndarray) else None


def _reduce(vectors: Vectors, dimensions: int | None) -> Vectors:
    """The first components, of unit length again."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    shorter = np.ascontiguousarray(vectors[:, :dimensions])
    lengths = np.linalg.norm(shorter, axis=1, keepdims=True)
    np.divide(shorter, lengths, out=shorter, where=lengths > 0)
    return shorter
