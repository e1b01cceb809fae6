"""Behind a proxy that takes a path prefix off: what is fetched there. In a browser: test_prefixed_page.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from model.environment import unknown_variables
from service.setting_values import MAX_ROOT_PATH_CHARACTERS
from service.settings import Settings, SettingsError
from tests.service.haproxy import balancing, stripping

PREFIX = "/clip"
KEY = "a-key-for-the-tests-1234"


@pytest.fixture(scope="module")
def prefixed(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("prefixed"), bundle_path, root_path=PREFIX, timeout_s="300") as service:
        yield service


@pytest.fixture(scope="module")
def proxy(prefixed: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with stripping(tmp_path_factory.mktemp("proxy"), {PREFIX: prefixed}) as url:
        yield url


def get(url: str, **options: object) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE_S, **options)  # type: ignore[arg-type]


def links(url: str) -> list[str]:
    """What a page refers to, as a browser resolves it."""
    page = get(url)
    assert page.status_code == 200
    found = re.findall(r"""(?:src|href|url)(?:=|: )["']([^"'#]+)["']""", page.text)
    return [urljoin(url, link) for link in found]


@pytest.mark.parametrize(
    "value",
    ["", "/clip", "/a/b.c/~d_e-f", "/..a/b..", "/...", "/" + "x" * (MAX_ROOT_PATH_CHARACTERS - 1)],
)
def test_a_path_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_ROOT_PATH", value)
    assert Settings.read({}).root_path == Settings.read({}).redacted()["root_path"] == value
    assert Settings.read({"root_path": "/other"}).root_path == "/other"
    assert "SIGHTWORD_ROOT_PATH" not in unknown_variables()


@pytest.mark.parametrize(
    "value",
    [
        "clip", "/", "/clip/", "//clip", "//elsewhere.example", "/a//b", "/../x", "/a/..", "/./a", "/a/.", "/a b",
        "/a\n", "/a\x00", "/a\x7f", "/a?b", "/a#b", "/a%2fb", "/a\\b", "/'+x", '/"x', "/<x>", "/é", " /clip", "/clip ",
        "https://elsewhere.example/clip", "/" + "x" * MAX_ROOT_PATH_CHARACTERS,
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused_by_name(value: str) -> None:
    with pytest.raises(SettingsError, match=r"SIGHTWORD_ROOT_PATH \(--root-path\): must be a path such as /clip"):
        Settings.read({"root_path": value})


def test_a_service_does_not_start_with_another(bundle_path: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"SIGHTWORD_ROOT_PATH \(--root-path\)"),
        running(tmp_path, bundle_path, root_path="//elsewhere.example"),
    ):
        pass


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_whatever_a_page_refers_to_is_there(page: str, proxy: str) -> None:
    found = links(f"{proxy}{PREFIX}{page}")
    assert len(found) >= 4
    for link in found:
        assert link.startswith(f"{proxy}{PREFIX}/")
        assert get(link).status_code == 200


def test_the_path_without_its_slash_leads_to_the_page(proxy: str) -> None:
    found = get(f"{proxy}{PREFIX}", follow_redirects=True)
    assert (found.status_code, str(found.url)) == (200, f"{proxy}{PREFIX}/")
    assert get(f"{proxy}/").text == "another application"


def test_the_schema_says_where_its_paths_stand(proxy: str, prefixed: Running, service: Running) -> None:
    [server] = get(f"{proxy}{PREFIX}/openapi.json").json()["servers"]
    at = urljoin(f"{proxy}{PREFIX}/openapi.json", server["url"])
    answer = httpx.post(f"{at}/embed", json={"inputs": "a cat"}, timeout=PATIENCE_S)
    assert (at, answer.status_code) == (f"{proxy}{PREFIX}", 200)
    assert get(f"{prefixed.url}/info").json()["settings"]["root_path"] == PREFIX
    plain = get(f"{service.url}/openapi.json").json()
    assert "servers" not in plain
    assert set(links(f"{service.url}/docs")) >= {f"{service.url}/openapi.json"}


def test_what_still_has_the_prefix_is_refused_with_the_reason(prefixed: Running, service: Running) -> None:
    """And not served: a rule of a proxy for exactly /clip/metrics must not be passed by /clip/clip/metrics."""
    for path in (PREFIX, f"{PREFIX}/", f"{PREFIX}/metrics", f"{PREFIX}/embed"):
        answer = get(prefixed.url + path)
        assert answer.status_code == 404
        assert "SIGHTWORD_ROOT_PATH" in answer.json()["error"]["message"]
    for url in (f"{prefixed.url}/clipper", f"{service.url}{PREFIX}/"):
        assert "SIGHTWORD_ROOT_PATH" not in get(url).json()["error"]["message"]


@pytest.mark.parametrize("root_path", ["/health", "/playground"])
def test_no_prefix_opens_what_wants_a_key(root_path: str, bundle_path: Path, tmp_path: Path) -> None:
    """Not even one under which everything is open."""
    with running(tmp_path, bundle_path, root_path=root_path, api_keys=KEY) as service:
        for path in ("/metrics", "/info", "/docs", "/openapi.json"):
            assert get(f"{service.url}{path}").status_code == 401
            assert get(f"{service.url}{root_path}{path}").status_code == 404
        posted = httpx.post(f"{service.url}{root_path}/embed", json={"inputs": "a cat"}, timeout=PATIENCE_S)
        assert posted.status_code in (404, 405)
        assert get(f"{service.url}/info", headers={"x-api-key": KEY}).status_code == 200


def test_the_balancer_of_compose_takes_a_prefix_off(prefixed: Running, tmp_path: Path) -> None:
    with balancing(tmp_path, prefixed, BALANCER_PREFIX=PREFIX) as url:
        assert {get(link).status_code for link in links(f"{url}{PREFIX}/docs")} == {200}
        assert str(get(f"{url}{PREFIX}", follow_redirects=True).url) == f"{url}{PREFIX}/"
        query = get(f"{url}{PREFIX}/label-sets/none?a=/x")
        assert query.json()["error"]["code"] == "label_set_not_found"
        assert [get(url + path).status_code for path in ("/", "/info", "/clipper", "/x/clip/info")] == [404] * 4


@pytest.mark.parametrize("environment", [{}, {"BALANCER_PREFIX": ""}])
def test_the_balancer_of_compose_without_one(environment: dict[str, str], service: Running, tmp_path: Path) -> None:
    with balancing(tmp_path, service, **environment) as url:
        assert {get(link).status_code for link in (*links(f"{url}/docs"), *links(f"{url}/"))} == {200}
