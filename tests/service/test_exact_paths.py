"""A path has one spelling: whatever a proxy's rule for it could overlook is not answered as if it were that path."""

from __future__ import annotations

import pytest

from benchmarks.service_process import Running
from tests.service.raw import LAST, exchange, post, request, statuses

TEXT = b'{"inputs": "a cat"}'
ENDINGS = [
    "%0a",
    "%0A",
    "%0d",
    "%0d%0a",
    "%00",
    "%09",
    "%1f",
    "%7f",
    "%20",
    "%250a",
    "%85",
    "%c2%85",
    "%e2%80%a8",
    "%ff",
]
ENDINGS += [
    "/",
    "//",
    "/.",
    "/%2e",
    "%2f",
    "%5c",
    "\\",
    ";x",
    ";x=1",
    "%3bx",
    "%23x",
    "%3fx",
    "%",
    "%zz",
    "/..",
    "/%2e%2e",
]


@pytest.mark.parametrize("path", ["/", "/metrics", "/health/live", "/docs", "/openapi.json", "/info", "/v1/models"])
def test_what_follows_a_path_makes_it_another(service: Running, path: str) -> None:
    asked = [ending for ending in ENDINGS if path != "/" or ending[0] in "%;"]
    received = exchange(
        service, b"".join(request(path + ending) for ending in asked[:-1]), request(path + asked[-1], LAST)
    )
    assert dict(zip(asked, statuses(received), strict=True)) == dict.fromkeys(asked, 404)


@pytest.mark.parametrize(
    "path",
    [
        "//metrics", "/%2fmetrics", "/%2e/metrics", "/./metrics", "/x/../metrics", "/%0ametrics", "/%6detrics",
        "/METRICS", "/metric%73", "/health%2flive", "/health%5clive", "/health\\live", "/health/%6cive",
        "/health//live", "/%68ealth/live", "/health%252flive", "/%e0%80%afmetrics", "/%c0%afmetrics",
        "/health/..%2fmetrics", "/playground/..%2f..%2fmetrics",
    ],
)  # fmt: skip
def test_another_spelling_is_another_path(service: Running, path: str) -> None:
    assert statuses(exchange(service, request(path, LAST))) == [404]


@pytest.mark.parametrize("ending", ["%0a", "%0d", "%00", "/", "%2f", ";x"])
def test_no_work_is_done_for_another_spelling(service: Running, ending: str) -> None:
    assert statuses(exchange(service, post(TEXT, LAST, path=f"/embed{ending}"))) == [404]
    assert statuses(exchange(service, post(TEXT, LAST, path="/embed"))) == [200]


def test_names_in_paths_are_exact(service: Running) -> None:
    assert statuses(exchange(service, request("/v1/models/sightword-small%0a", LAST))) == [404]
    assert statuses(exchange(service, request("/label-sets/animals%0a", LAST))) == [422]
    assert statuses(exchange(service, request("/label-sets/a%2fb", LAST))) == [422]


def test_metrics_count_another_spelling_as_no_route(service: Running) -> None:
    before = service.metric("sightword_requests_total", route="/info", status="404")
    exchange(service, request("/%69nfo", LAST), request("/info%0a", LAST))
    assert service.metric("sightword_requests_total", route="/info", status="404") == before == 0
