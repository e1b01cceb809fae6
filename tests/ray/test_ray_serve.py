"""The service on a Ray cluster of several nodes: `make test-ray` installs Ray and runs this."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest

import sightword
from model.bundle import Bundle
from service.settings import SettingsError
from sightword.protocol import Answer, Request
from tests.ray.load import TEXTS, load, vectors_of

if TYPE_CHECKING:
    from tests.ray.cluster import LocalCluster

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")
CLIENTS = 16
MANY = TEXTS * 6  # of one request, so that it spends most of its time in a replica
SOME_MORE = 100  # answers, after what should have made a difference


def wait_for_more(done: object, count: int = SOME_MORE) -> None:
    from tests.ray.cluster import wait_until

    enough = done.answered + count  # type: ignore[attr-defined]
    wait_until(lambda: done.answered >= enough)  # type: ignore[attr-defined]


def test_one_to_three_replicas_and_back_under_load(cluster: LocalCluster, bundle: Bundle) -> None:
    from tests.ray.cluster import wait_until

    scaling = {
        "min_replicas": 1, "max_replicas": 3, "target_ongoing_requests": 2, "look_back_period_s": 2,
        "metrics_interval_s": 1, "upscale_delay_s": 1, "downscale_delay_s": 3,
    }  # fmt: skip
    cluster.deploy(bundle.path, autoscaling_config=scaling)
    cluster.wait_until_running(1)
    expected = vectors_of(bundle)
    with httpx.Client(base_url=cluster.url, timeout=60) as http:

        def ask(text: int) -> list[float]:  # without a client that would ask again
            answer = http.post("/embed", json={"inputs": [TEXTS[text]]}).raise_for_status()
            assert len(answer.headers.get_list("x-request-id")) == 1
            vector: list[float] = answer.json()["data"][0]["embedding"]
            return vector

        with load(ask, 1) as few:
            wait_for_more(few, 5)
            with load(ask, 12) as many:
                wait_until(lambda: len(cluster.replicas()) == 3)
                wait_for_more(many)
                metrics = httpx.get(f"{cluster.url}/metrics", timeout=60).text
            wait_until(lambda: len(cluster.replicas()) == 1)
            wait_for_more(few, 20)
    assert few.failed == many.failed == []
    for text, vector in (*few.answers, *many.answers):
        np.testing.assert_allclose(vector, expected[text], atol=1e-5)
    lines = [line for line in metrics.splitlines() if line.startswith("sightword_ready{")]
    assert len(lines) == 3, "whichever replica is asked tells of all"
    assert len(set(lines)) == 3


def test_a_new_version_takes_the_place_of_the_old_one(
    cluster: LocalCluster, bundle: Bundle, other_bundle: Bundle
) -> None:
    expected = {each.digest: vectors_of(each) for each in (bundle, other_bundle)}
    cluster.deploy(bundle.path, num_replicas=2)
    cluster.wait_until_running(2)
    with httpx.Client(base_url=cluster.url, timeout=60) as http:

        def ask(text: int) -> tuple[str, str, list[float]]:
            answer = http.post("/embed", json={"inputs": [TEXTS[text]]}).raise_for_status()
            return answer.headers["x-model-digest"], answer.text, answer.json()["data"][0]["embedding"]

        with load(ask, 4) as done:
            wait_for_more(done)
            cluster.deploy(other_bundle.path, num_replicas=2)
            cluster.wait_until_running(2)
            wait_for_more(done)
    assert done.failed == []
    digests = [digest for _, (digest, _, _) in done.answers]
    assert set(digests) == set(expected), "both versions have answered"
    assert set(digests[-20:]) == {other_bundle.digest}
    for text, (digest, _, vector) in done.answers:
        np.testing.assert_allclose(vector, expected[digest][text], atol=1e-5)


def test_a_client_that_leaves_is_no_error(cluster: LocalCluster, bundle: Bundle) -> None:
    from tests.ray.cluster import wait_until

    cluster.deploy(bundle.path, num_replicas=1)
    cluster.wait_until_running(1)
    turns = itertools.count()

    def seen() -> bool:
        turn = next(turns)
        new = [f"{text}, {number} of turn {turn}" for number, text in enumerate(MANY)]  # no two are computed as one
        with suppress(httpx.TimeoutException):
            httpx.post(f"{cluster.url}/embed", json={"inputs": new}, timeout=0.02 * (1 + turn % 8))
        return 'status="499"' in httpx.get(f"{cluster.url}/metrics", timeout=60).text

    wait_until(seen)
    assert 'status="5' not in httpx.get(f"{cluster.url}/metrics", timeout=60).text


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "2"), ("ADMIN_KEY", "k" * 32)])
def test_what_cannot_hold_for_one_of_several_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.ray_serve import read_settings

    read_settings()
    monkeypatch.setenv(f"SIGHTWORD_{name}", value)
    with pytest.raises(SettingsError, match=f"SIGHTWORD_{name}: "):
        read_settings()


class Watching(sightword.Client):
    """Keeps what each attempt came to: the status and whether the service itself has answered."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=120, concurrency=CLIENTS, items_per_request=len(MANY))
        self.attempts: list[tuple[int, bool]] = []

    def _exchange(self, request: Request, remaining_s: float) -> Answer:
        answer = super()._exchange(request, remaining_s)
        self.attempts.append((answer.status, "x-request-id" in answer.headers))
        return answer


def test_a_node_that_is_killed_loses_nothing(cluster: LocalCluster, bundle: Bundle) -> None:
    cluster.deploy(bundle.path, {"SIGHTWORD_MAX_BATCH": "2"}, num_replicas=2)  # slow, and so busy
    cluster.wait_until_running(2)
    nodes = {replica["node_id"] for replica in cluster.replicas()}
    assert len(nodes) == 2
    expected = vectors_of(bundle)
    with Watching(cluster.url) as client, load(lambda _: client.embed(MANY), CLIENTS) as done:
        wait_for_more(done, 20)
        killed = cluster.kill_one_node()
        wait_for_more(done, 20)
        cluster.wait_until_running(2)
        wait_for_more(done, 20)
    assert done.failed == []
    assert killed not in {replica["node_id"] for replica in cluster.replicas()}
    for _, vectors in done.answers:
        np.testing.assert_allclose(vectors, np.tile(expected, (6, 1)), atol=1e-5)
    lost = [attempt for attempt in client.attempts if attempt != (200, True)]
    assert len(lost) <= CLIENTS, "only what was in flight; none, where all of it was between replica and client"
    assert set(lost) <= {(500, False)}, "Ray Serve's own"
