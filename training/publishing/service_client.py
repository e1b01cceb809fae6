"""A client of a running service with the admin key: which models it serves, reload one, classify with one."""

from __future__ import annotations

import base64
import json
import os
import re
import string
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from model.embedder import ReadBytes

KEY = "SIGHTWORD_ADMIN_KEY"
TIMEOUT_S = 300.0  # a large model is verified, opened and warmed up before a reload is answered
CONNECT_TIMEOUT_S = 10.0
LONGEST_WAIT_S = 5.0  # between two tries
MAX_ANSWER_BYTES = 16 * 2**20
EXAMPLES = "Write http://127.0.0.1:8000 or https://[::1]:8000/prefix"
WHITESPACE = frozenset(string.whitespace)
TRIES = 10  # of a request that the service has no room for just now
BATCH, BATCH_BYTES = 16, 8 * 2**20  # pictures of one request


class PublishError(RuntimeError):
    """The bundle was not published; the message says why, what to do, and what is served now."""


@dataclass(frozen=True)
class ServedModel:
    """A model of the service; `setting` is its entry of SIGHTWORD_MODEL, None for the bundled checkpoint."""

    id: str
    digest: str
    setting: str | None


@dataclass(frozen=True)
class LabelledImages:
    """Images by which a published model is judged: `labels` [images] are among `classes`, put into `templates`."""

    name: str
    images: Sequence[ReadBytes]
    labels: Sequence[str]
    classes: Sequence[str]
    templates: Sequence[str]


class _Info(BaseModel):
    """The fields of /info that matter here."""

    class Model(BaseModel):
        id: str
        digest: str

    class Settings(BaseModel):
        model: list[str | None] = []

    models: list[Model]
    settings: Settings


class _Reloaded(BaseModel):
    models: list[_Info.Model]


class _Classified(BaseModel):
    data: list[dict[str, Any]]


Answer = TypeVar("Answer", bound=BaseModel)


class ServiceClient:
    """Sends the admin key, which opens everything. `timeout_s` is of a whole answer. All methods raise PublishError."""

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        self.url, address, user = _parse_url(url)
        self._timeout_s = timeout_s
        timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        self._http = httpx2.Client(base_url=address, headers={"x-api-key": _admin_key()}, auth=user, timeout=timeout)

    def models(self) -> list[ServedModel]:
        """The models that it serves, in its order."""
        info = self._call(_Info, "GET", "/info")
        settings = info.settings.model or [None]
        if len(info.models) != len(settings):
            raise PublishError(f"{self.url} does not answer as Sightword does: {len(settings)} settings of models")
        return [
            ServedModel(model.id, model.digest, setting) for model, setting in zip(info.models, settings, strict=True)
        ]

    def reload(self, model: str) -> str:
        """Reload the bundle of that model from its folder; returns the digest that is served then."""
        models = self._call(_Reloaded, "POST", "/admin/reload", params={"model": model}).models
        if len(models) != 1:
            raise PublishError(f"{self.url} reloaded {len(models)} models, not one")
        return models[0].digest

    def classify_correctly(self, model: ServedModel, labelled: LabelledImages) -> list[bool]:
        """Classify the images: for each, whether the best label is its own; one that cannot be read is not."""
        correct: list[bool] = []
        for batch in _batches(labelled):
            body = {
                "model": model.id,
                "inputs": [{"image": base64.b64encode(image).decode("ascii")} for image, _ in batch],
                "labels": list(labelled.classes),
                "templates": list(labelled.templates),
                "top_k": 1,
                "on_error": "item",
            }
            answer = self._call(_Classified, "POST", "/classify", digest=model.digest, json=body)
            if len(answer.data) != len(batch):
                raise PublishError(f"{self.url}/classify answered {len(answer.data)} of {len(batch)} pictures")
            correct += [item.get("label") == label for item, (_, label) in zip(answer.data, batch, strict=True)]
        return correct

    def _call(
        self, kind: type[Answer], method: str, path: str, *, digest: str | None = None, **parameters: Any
    ) -> Answer:
        """The response parsed as `kind`, asked for again while that is 429; it must be of the model of `digest`."""
        for _ in range(TRIES):
            status, headers, content = self._request(method, path, **parameters)
            if status != 429:
                break
            time.sleep(retry_after_s(headers.get("retry-after", "")))
        if 300 <= status < 400:
            to = _without_secrets(headers.get("location", "elsewhere"))
            raise PublishError(f"{self.url}{path} redirects to {to}: give the address that answers itself")
        if not 200 <= status < 300:
            raise PublishError(f"{self.url}{path} answered {status}: {_error_message(content)}")
        if digest is not None and headers.get("x-model-digest") != digest:
            raise PublishError(
                f"{self.url} answered by another model than {digest[:12]}: is it several services behind a "
                "balancer, or does somebody else publish? Publish to one service at a time"
            )
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the answer"
            raise PublishError(
                f"{self.url}{path} does not answer as Sightword does: {where}: {first['msg']}"
            ) from error

    def _request(self, method: str, path: str, **parameters: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and content of a response, of bounded size and time."""
        deadline, content = time.monotonic() + self._timeout_s, bytearray()
        try:
            with self._http.stream(method, path, **parameters) as answer:
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER_BYTES:
                        raise PublishError(f"{self.url}{path} answered more than {MAX_ANSWER_BYTES:,} bytes")
                    if time.monotonic() > deadline:
                        raise PublishError(f"{self.url}{path} was still answering after {self._timeout_s:.0f} s")
                return answer.status_code, answer.headers, bytes(content)
        except httpx2.TimeoutException as error:
            raise PublishError(f"the service at {self.url} did not answer {path} in time") from error
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            raise PublishError(f"the service at {self.url} cannot be reached: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _batches(labelled: LabelledImages) -> Iterator[list[tuple[bytes, str]]]:
    """Encoded images with their labels, of at most BATCH images and BATCH_BYTES."""
    batch: list[tuple[bytes, str]] = []
    for read, label in zip(labelled.images, labelled.labels, strict=True):
        image = read()
        if batch and (len(batch) == BATCH or sum(len(other) for other, _ in batch) + len(image) > BATCH_BYTES):
            yield batch
            batch = []
        batch.append((image, label))
    if batch:
        yield batch


def _admin_key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise PublishError(f"set {KEY} to the admin key that the service was started with")
    if not key.isascii() or not key.isprintable():
        raise PublishError(f"{KEY} has characters that no header may have")
    return key


def _parse_url(url: str) -> tuple[str, str, tuple[str, str] | None]:
    """The address as it may be shown, as it is asked, and name and password if it has any."""
    try:
        parsed = httpx2.URL(url.strip().rstrip("/"))
        port_is_valid = parsed.port is None or 0 < parsed.port < 65536
    except (httpx2.InvalidURL, ValueError, UnicodeError) as error:
        raise PublishError(f"{_without_secrets(url)!r} is no address of a service: {error}. {EXAMPLES}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or not port_is_valid or set(url.strip()) & WHITESPACE:
        raise PublishError(f"{_without_secrets(url)!r} is no address of a service. {EXAMPLES}")
    if parsed.query or parsed.fragment:
        raise PublishError(f"{_without_secrets(url)!r} has a query or a fragment; {EXAMPLES}")
    bare = parsed.copy_with(username=None, password=None)
    user = (parsed.username, parsed.password) if parsed.userinfo else None
    return str(bare), str(bare), user


def _without_secrets(url: str) -> str:
    """A URL, also one that is none, without what may be a password or a key."""
    scheme, separator, rest = url.rpartition("://")
    start, mark, _ = rest.partition("?")
    return f"{scheme}{separator}{start.rpartition('@')[2]}{mark and '?...'}"[:200]


def retry_after_s(retry_after: str) -> float:
    """Seconds to wait by a Retry-After header, at most LONGEST_WAIT_S; one for what is no number of seconds."""
    return min(LONGEST_WAIT_S, float(retry_after)) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 1.0


def _error_message(content: bytes) -> str:
    """The message of the service's error shape, or the beginning of whatever else answered."""
    try:
        return str(json.loads(content)["error"]["message"])[:1000]
    except (ValueError, KeyError, TypeError, RecursionError):
        return content[:200].decode("utf-8", "replace")
