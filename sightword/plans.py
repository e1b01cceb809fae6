"""A call over a list: the requests that it becomes, and the result that their answers make."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from sightword.connection import Limits
from sightword.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    ModelChangedError,
    Params,
    SightwordError,
    from_detail,
)
from sightword.items import content_of, listed, to_json
from sightword.protocol import JSON, NPY, WRONG_SHAPE, Answer, Request, body_of, string_list, unexpected
from sightword.request_size import RequestSize
from sightword.results import Classification, Embedded, Prediction, Vectors, classification_of
from sightword.scores import cosines_of

MODEL_CHANGED = "The service took another model meanwhile; start this list again."
OnError = Literal["fail", "item"]
Output = Literal["vector", "tokens"]
T = TypeVar("T")


@dataclass(slots=True)
class Part:
    """Consecutive items of the list: those of a request, by index, and those that were bad before it was sent."""

    indices: list[int] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    inputs: list[bytes] = field(default_factory=list)
    errors: dict[int, SightwordError] = field(default_factory=dict)
    size: int = 0
    request: Request | None = None  # None where no item is left
    block: Sequence[int] = ()  # of another list, the indices that go along

    def __len__(self) -> int:
        return len(self.indices) + len(self.errors)


class Plan(Generic[T]):
    """Splits the items, and puts the answers together. `name` says how the caller knows each item, by its index."""

    path: str
    accept = JSON

    def __init__(self, items: Any, options: Mapping[str, Any], on_error: OnError, field: str = "inputs") -> None:
        if on_error not in ("fail", "item"):
            raise ValueError(f'on_error is "fail" or "item", not {on_error!r}')
        self.items = listed(items)
        self.total = len(self.items) if isinstance(self.items, Sized) else None
        self.errors: dict[int, SightwordError] = {}
        self.count = 0
        self.digest: str | None = None
        self._size = RequestSize(1)
        self._options, self._keep_errors, self._field = options, on_error == "item", field

    def name(self, index: int) -> str:
        """How the caller knows the item."""
        return f"{self._field}.{index}"

    def parts(self, limits: Limits) -> Iterator[Part]:
        """The requests, each made when it is asked for: no more of a long iterator is read than is sent."""
        part, self._size = Part(), RequestSize(self.most_items(limits))
        overhead = len(self.body([])) + 1
        for index, item in enumerate(self.items):
            param = self.name(index)
            try:
                content = to_json(content_of(item, param))
                if len(content) + overhead > limits.most_bytes:
                    raise BodyTooLargeError(
                        f"This is {len(content)} bytes as it is sent, and the service takes {limits.most_bytes}; "
                        "scale the picture down."
                    )
            except SightwordError as error:
                error.param = error.param or param
                if not self._keep_errors:
                    raise
                part.errors[index] = error
                content = None
            if content is not None:
                if part.indices and part.size + len(content) + overhead > limits.bytes:
                    yield self._closed(part)
                    part = Part()
                part.indices.append(index)
                part.params.append(param)
                part.inputs.append(content)
                part.size += len(content) + 1
            if len(part) >= self._size.items:
                yield self._closed(part)
                part = Part()
        if len(part):
            yield self._closed(part)

    def most_items(self, limits: Limits) -> int:
        """In one request."""
        return limits.items

    def body(self, inputs: Sequence[bytes]) -> bytes:
        """Of the request with these."""
        return body_of(self._options, inputs=inputs)

    def _closed(self, part: Part) -> Part:
        if part.inputs:
            part.request = Request("POST", self.path, self.body(part.inputs), self.accept, self.names(part))
            part.inputs = []
        return part

    def names(self, part: Part) -> Params:
        """How the caller knows the items of its request."""
        return part.params

    def add(self, part: Part, answer: Answer | None) -> None:
        """Take in an answer; the parts come in their order."""
        self.count += len(part)
        self.errors.update(part.errors)
        if answer is not None:
            self._check_digest(answer)
            self._size.observe(len(part.indices), answer.seconds)
            try:
                self.read(part, answer)
            except WRONG_SHAPE:
                raise unexpected(answer) from None

    def _check_digest(self, answer: Answer) -> None:
        if self.digest is not None and answer.digest is not None and answer.digest != self.digest:
            raise ModelChangedError(MODEL_CHANGED)
        self.digest = answer.digest or self.digest

    def read(self, part: Part, answer: Answer) -> None:
        """Keep what the answer says."""
        raise NotImplementedError

    def result(self, dimensions: int) -> T:
        """Of all that was added; `dimensions` is what the model's vectors have."""
        raise NotImplementedError

    def _entries(self, part: Part, answer: Answer) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """By index, the entries of an answer that are good; the others go to `errors`."""
        data = answer.json().get("data")
        if not isinstance(data, list) or len(data) != len(part.indices):
            raise unexpected(answer)
        for index, entry in zip(part.indices, data, strict=True):
            if "error" in entry:
                self.errors[index] = from_detail(
                    entry["error"], request_id=answer.headers.get("x-request-id"), params=part.params
                )
            else:
                yield index, entry


class EmbedPlan(Plan[Vectors]):
    """To vectors [items, dimensions], or with the option `output: tokens` [items, tokens, dimensions]."""

    path = "embed"

    def __init__(
        self, items: Any, options: Mapping[str, Any], on_error: OnError = "fail", field: str = "inputs"
    ) -> None:
        if on_error == "item":  # a bare matrix has no place for them
            options = {**options, "encoding_format": "base64", "on_error": "item"}
        else:
            self.accept = NPY
        super().__init__(items, options, on_error, field)
        self._blocks: list[tuple[Sequence[int], Vectors]] = []
        self._width: int | None = None  # numbers of one item
        self._several = options.get("output") == "tokens"

    def read(self, part: Part, answer: Answer) -> None:
        """Keep the vectors."""
        if self.accept == NPY:
            count = len(part.indices)
            self._keep(part.indices, answer.matrix(count, 3 if self._several else 2).reshape(count, -1))
            return
        entries = dict(self._entries(part, answer))
        rows = {index: np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for index, each in entries.items()}
        for width in {len(row) for row in rows.values()}:
            some = {index: row for index, row in rows.items() if len(row) == width}
            self._keep(list(some), np.stack(list(some.values())))

    def _keep(self, indices: Sequence[int], block: Vectors) -> None:
        if self._width not in (None, block.shape[1]):
            raise texts_and_pictures() if self._several else ModelChangedError(MODEL_CHANGED)
        self._width = block.shape[1]
        self._blocks.append((indices, block))

    def take(self) -> Vectors:
        """What was added last, and is kept no longer."""
        return self._blocks.pop()[1]

    def result(self, dimensions: int) -> Vectors:
        """The matrix; rows of bad items are NaN."""
        matrix = np.full((self.count, self._width or dimensions), np.nan, np.float32)
        for indices, block in self._blocks:
            matrix[indices] = block
        return matrix.reshape(self.count, -1, dimensions) if self._several else matrix

    def embedded(self, dimensions: int) -> Embedded:
        """The matrix and the errors."""
        return Embedded(self.result(dimensions), dict(sorted(self.errors.items())))


def texts_and_pictures() -> InvalidRequestError:
    """For several vectors of items that have not equally many."""
    return InvalidRequestError(
        "A text has one vector and a picture several, which are no one array: embed them in two calls.", param="inputs"
    )


class PairPlan(EmbedPlan):
    """Two lists in one: `first` of them, then the others."""

    def __init__(self, first: Any, second: Any, names: tuple[str, str], options: Mapping[str, Any]) -> None:
        self.first = list(listed(first))
        super().__init__([*self.first, *listed(second)], options)
        self._names = names

    def name(self, index: int) -> str:
        """Of one list or the other."""
        first = len(self.first)
        name, at = (self._names[0], index) if index < first else (self._names[1], index - first)
        return name if name == "query" else f"{name}.{at}"

    def cosines(self, dimensions: int) -> Vectors:
        """[first, second]."""
        vectors, first = self.result(dimensions), len(self.first)
        return cosines_of(vectors[:first], vectors[first:])


class ClassifyPlan(Plan[list[Classification]]):
    """To the labels of each item."""

    path = "classify"

    def __init__(self, items: Any, options: Mapping[str, Any], on_error: OnError) -> None:
        super().__init__(items, {**options, "on_error": on_error}, on_error)
        self._found: dict[int, Classification] = {}

    def most_items(self, limits: Limits) -> int:
        """So many that the answer does not hold too many predictions."""
        labels = self._options["labels"]
        predictions = min(limits.labels if labels is None else len(labels), self._options["top_k"] or limits.labels)
        return max(1, min(limits.items, limits.predictions // max(1, predictions)))

    def read(self, part: Part, answer: Answer) -> None:
        """Keep the predictions."""
        for index, entry in self._entries(part, answer):
            found = [
                Prediction(each["label"], float(np.float32(each["score"])), float(np.float32(each["cosine"])))
                for each in entry["predictions"]
            ]
            self._found[index] = classification_of(found)

    def result(self, dimensions: int) -> list[Classification]:
        """One for each item."""
        bad = {index: Classification(None, None, [], error) for index, error in self.errors.items()}
        return [(self._found | bad)[index] for index in range(self.count)]


def several(output: Output) -> Output | None:
    """What is sent of it: nothing for one vector, which a service that knows of no other takes. Raises ValueError."""
    if output not in ("vector", "tokens"):
        raise ValueError(f'output is "vector" or "tokens", not {output!r}')
    return output if output == "tokens" else None


def classify_options(
    labels: Iterable[str] | None, label_set: str | None, templates: Iterable[str] | None, **others: Any
) -> dict[str, Any]:
    """As the service reads them. Raises TypeError for one string where a list belongs."""
    return {
        "labels": None if labels is None else string_list(labels, "labels"),
        "label_set": label_set,
        "templates": None if templates is None else string_list(templates, "templates"),
        **others,
    }
