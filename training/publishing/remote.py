"""The running service, as its operator sees it."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from training.publishing.sample import Sample

KEY = "SIGHTWORD_ADMIN_KEY"
TIMEOUT_S = 300.0  # a large model is verified, opened and warmed up before a reload is answered
LONGEST_WAIT_S = 5.0  # between two tries
TRIES = 10  # of a request that the service has no room for just now
BATCH, BATCH_BYTES = 16, 8 * 2**20  # pictures of one request


class PublishError(RuntimeError):
    """The bundle was not published; the message says why, what to do, and what is served now."""


@dataclass(frozen=True)
class Served:
    """A model of the service; `setting` is what it was told to serve there, if it was told."""

    id: str
    digest: str
    setting: str | None


class Remote:
    """Asks with the admin key, which opens everything. All methods raise PublishError."""

    def __init__(self, url: str) -> None:
        key = os.environ.get(KEY)
        if not key:
            raise PublishError(f"set {KEY} to the admin key that the service was started with")
        self.url = url.rstrip("/")
        self._http = httpx2.Client(base_url=self.url, headers={"x-api-key": key}, timeout=TIMEOUT_S)

    def served(self) -> list[Served]:
        """What it serves, in its order."""
        told = self._ask("GET", "/info").json()
        try:
            settings = told["settings"]["model"] or [None]
            pairs = zip(told["models"], settings, strict=True)
            return [Served(model["id"], model["digest"], setting) for model, setting in pairs]
        except (KeyError, TypeError, ValueError) as error:
            raise PublishError(f"{self.url} does not answer as Sightword does: {error!r}") from error

    def reload(self, model: str) -> str:
        """Have it read the folder of that model again; returns the digest that is served then."""
        [changed] = self._ask("POST", "/admin/reload", params={"model": model}).json()["models"]
        return str(changed["digest"])

    def right(self, model: Served, sample: Sample) -> list[bool]:
        """Whether it answers right, for each picture; what it cannot read is wrong."""
        found: list[bool] = []
        for part in _batches(sample):
            body = {
                "model": model.id,
                "inputs": [{"image": base64.b64encode(picture).decode("ascii")} for picture, _ in part],
                "labels": list(sample.classes),
                "templates": list(sample.templates),
                "top_k": 1,
                "on_error": "item",
            }
            answer = self._ask("POST", "/classify", json=body)
            if answer.headers.get("x-model-digest") != model.digest:
                raise PublishError(
                    f"{self.url} answered by another model than {model.digest[:12]}: is it several services behind a "
                    "balancer, or does somebody else publish? Publish to one service at a time"
                )
            found += [item.get("label") == label for item, (_, label) in zip(answer.json()["data"], part, strict=True)]
        return found

    def _ask(self, method: str, path: str, **given: Any) -> httpx2.Response:
        for _ in range(TRIES):
            try:
                answer = self._http.request(method, path, **given)
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                raise PublishError(f"the service at {self.url} cannot be reached: {error}") from error
            if answer.status_code != 429:
                break
            time.sleep(_wait_s(answer.headers.get("retry-after", "")))
        if not answer.is_success:
            raise PublishError(f"{self.url}{path} answered {answer.status_code}: {_message(answer)}")
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _wait_s(retry_after: str) -> float:
    """Before the next try: what a service, or a proxy in front, says in whole seconds, but not for long."""
    return min(LONGEST_WAIT_S, float(retry_after)) if re.fullmatch(r"[0-9]{1,6}", retry_after) else 1.0


def _batches(sample: Sample) -> Iterator[list[tuple[bytes, str]]]:
    part: list[tuple[bytes, str]] = []
    for read, label in zip(sample.pictures, sample.labels, strict=True):
        picture = read()
        if part and (len(part) == BATCH or sum(len(other) for other, _ in part) + len(picture) > BATCH_BYTES):
            yield part
            part = []
        part.append((picture, label))
    if part:
        yield part


def _message(answer: httpx2.Response) -> Sequence[str] | str:
    """What its one error shape says, or the beginning of whatever else answered."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
