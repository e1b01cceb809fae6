"""Requests and answers of the service, without what carries them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from sightword.errors import Params, UnexpectedAnswerError, from_answer
from sightword.results import Info, LabelSet, ModelInfo, Vectors

JSON, NPY = "application/json", "application/x-npy"
WRONG_SHAPE = (AttributeError, IndexError, KeyError, TypeError, ValueError)  # raised by what reads another's JSON
DIGEST = "x-model-digest"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `params` are the names that the caller knows its `inputs` by, in their order, or those of each list.

    All of them may be repeated (RFC 9110, 9.2.2): what embeds and classifies changes nothing, and to store or delete a
    label set twice is as once.
    """

    method: str
    path: str
    body: bytes = b""
    accept: str = JSON
    params: Params = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    seconds: float = 0.0

    @property
    def digest(self) -> str | None:
        """Of the model that made it."""
        return self.headers.get(DIGEST)

    def json(self) -> Any:
        """Its value. Raises UnexpectedAnswerError."""
        try:
            return json.loads(self.content)
        except ValueError:
            raise unexpected(self) from None

    def matrix(self, rows: int, axes: int = 2) -> Vectors:
        """The array of a .npy, [rows, dimensions] or of more axes. Raises UnexpectedAnswerError."""
        try:
            matrix = np.lib.format.read_array(io.BytesIO(self.content), allow_pickle=False)
        except (ValueError, EOFError, OSError):
            raise unexpected(self) from None
        if matrix.dtype != np.float32 or matrix.ndim != axes or len(matrix) != rows:
            raise unexpected(self)
        return matrix.astype(np.float32, copy=False)


def unexpected(answer: Answer) -> UnexpectedAnswerError:
    """For an answer of 200 that no such service gives."""
    start = answer.content[:100].decode("utf-8", "replace")
    request_id = answer.headers.get("x-request-id")
    return UnexpectedAnswerError(
        f"This is no answer of Sightword's: {start!r}. Is the URL that of the service?", request_id=request_id
    )


def check(request: Request, answer: Answer) -> Answer:
    """The answer, if it is a good one. Raises the error that it holds."""
    if not 200 <= answer.status < 300:
        raise from_answer(answer.status, answer.headers, answer.content, params=request.params)
    return answer


def body_of(options: Mapping[str, Any], **lists: Sequence[bytes]) -> bytes:
    """`options` that are set, and lists of items, which are JSON already."""
    fields = [
        json.dumps(name).encode() + b":" + json.dumps(value).encode()
        for name, value in options.items()
        if value is not None
    ]
    fields += [json.dumps(name).encode() + b":[" + b",".join(items) + b"]" for name, items in lists.items()]
    return b"{" + b",".join(fields) + b"}"


INFO = Request("GET", "info")


def read_info(answer: Answer) -> Info:
    """The answer of /info."""
    value = answer.json()
    try:
        models = [_model(each) for each in value["models"]]
        info = Info(value["version"], models, value["template_sets"], value["limits"], value["settings"])
    except WRONG_SHAPE:
        raise unexpected(answer) from None
    if not models:
        raise unexpected(answer)
    return info


def _model(value: Mapping[str, Any]) -> ModelInfo:
    mixture = value.get("mixture")
    return ModelInfo(
        **{name: value[name] for name in ModelInfo.__slots__ if name not in ("aliases", "mixture_tokens")},
        aliases=list(value.get("aliases", ())),
        mixture_tokens=None if mixture is None else int(mixture["tokens"]),
    )


LABEL_SETS = Request("GET", "label-sets")


def label_set_request(method: str, name: str, options: Mapping[str, Any] | None = None) -> Request:
    """To one label set."""
    given = {key: value for key, value in (options or {}).items() if value is not None}
    body = json.dumps(given).encode() if options is not None else b""
    return Request(method, f"label-sets/{quote(name, safe='')}", body)


def read_label_set(answer: Answer) -> LabelSet:
    """The answer of one."""
    value = answer.json()
    try:
        return LabelSet(value["name"], list(value["labels"]), list(value["templates"]))
    except WRONG_SHAPE:
        raise unexpected(answer) from None


def read_label_sets(answer: Answer) -> list[str]:
    """The names of all."""
    try:
        return [each["name"] for each in answer.json()["label_sets"]]
    except WRONG_SHAPE:
        raise unexpected(answer) from None


def label_set_options(
    labels: Iterable[str], templates: Iterable[str] | None, template_set: str | None, truncate: bool | None
) -> dict[str, Any]:
    """The body of one that is stored."""
    return {
        "labels": string_list(labels, "labels"),
        "templates": None if templates is None else string_list(templates, "templates"),
        "template_set": template_set,
        "truncate": truncate,
    }


def string_list(value: Iterable[str], name: str) -> list[str]:
    """Raises TypeError for one string, which would be as many as it has letters."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} are a list of strings, not one string")
    return list(value)


def headers(request: Request, remaining_s: float) -> dict[str, str]:
    """Of one attempt: the service, too, gives up when nobody waits any more."""
    fields = {"accept": request.accept, "x-request-timeout": f"{max(remaining_s, 0.001):.3f}"}
    return fields | {"content-type": JSON} if request.body else fields
