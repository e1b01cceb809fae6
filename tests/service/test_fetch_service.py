"""Pictures by URL, asked of the real service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import Running, running
from tests.service import pictures
from tests.service.conftest import checking_client
from tests.service.https_server import PATIENCE_S, HttpsServer, answer, raw, serving

SECRET = "key=secret-query"


@pytest.fixture(scope="module")
def host() -> Iterator[HttpsServer]:
    with serving("localhost", "127.0.0.1") as server:
        yield server


@pytest.fixture
def server(host: HttpsServer) -> HttpsServer:
    host.reset()
    for name in ("rocket", "cat"):
        host.answers[f"/{name}"] = answer(200, pictures.read(name), Content_Type="text/plain")
    host.answers["/trickle"] = raw(b"HTTP/1.1 200 OK\r\n\r\n", endless=b"a", pause_s=0.01)
    return host


@pytest.fixture(scope="module")
def common(host: HttpsServer) -> Iterator[dict[str, str]]:
    """Of a service that may fetch from loopback by all its names, if only it were public."""
    names = ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", host.ca_file)
        yield {"url_hosts": ",".join(f"{name}:{host.port}" for name in names), "max_batch": "8", "timeout_s": "300"}


@pytest.fixture(scope="module")
def fetching(common: dict[str, str], bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """May fetch from loopback."""
    common = {**common, "url_networks": "127.0.0.0/8, ::1/128", "module": "tests.service.patient_service"}
    with running(tmp_path_factory.mktemp("fetching"), bundle_path, **common) as service:
        yield service


@pytest.fixture(scope="module")
def careful(common: dict[str, str], bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """May not."""
    with running(tmp_path_factory.mktemp("careful"), bundle_path, **common) as service:
        yield service


@pytest.fixture
def client(fetching: Running) -> Iterator[httpx.Client]:
    with checking_client(fetching) as client:
        yield client
    ends = time.monotonic() + PATIENCE_S
    while fetching.metric("sightword_queue_bytes") or fetching.metric("sightword_queue_items"):
        assert time.monotonic() < ends, "something is still held"
        time.sleep(0.02)
    assert "secret" not in fetching.log()


def by_url(server: HttpsServer, path: str, name: str = "localhost") -> dict[str, str]:
    return {"image": f"https://{name}:{server.port}{path}?{SECRET}#secret"}


def by_value(name: str) -> dict[str, str]:
    return {"image": pictures.as_base64(name)}


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_embed_takes_urls_among_other_items(client: httpx.Client, server: HttpsServer):
    data_uri = {"image": f"data:image/png;base64,{pictures.as_base64('cat')}"}
    inputs = [by_url(server, "/cat"), "a cat", data_uri, by_url(server, "/rocket", "127.0.0.1"), by_value("rocket")]
    response = client.post("/embed", json={"inputs": inputs})
    assert response.status_code == 200, response.text
    assert "fetch;dur=" in response.headers["server-timing"]
    cat, _, same_cat, rocket, same_rocket = [entry["embedding"] for entry in response.json()["data"]]
    assert cat == same_cat
    assert rocket == same_rocket
    assert response.json()["usage"]["images"] == 4
    assert sorted(path for path, _ in server.requests) == [f"/cat?{SECRET}", f"/rocket?{SECRET}"]


def test_classify_and_similarity_take_urls_too(client: httpx.Client, server: HttpsServer):
    inputs = [by_value("cat"), by_url(server, "/cat"), "a photo of a cat"]
    by_base64, fetched, _ = post(client, "/classify", inputs=inputs, labels=["a cat", "a rocket"])["data"]
    assert by_base64["predictions"] == fetched["predictions"]
    [row] = post(client, "/similarity", queries="a cat", candidates=inputs)["cosine"]
    assert row[0] == row[1]


def test_a_bad_url_fails_alone(client: httpx.Client, server: HttpsServer):
    server.answers["/404"] = answer(404)
    server.answers["/text"] = answer(200, b"no picture", Content_Type="image/jpeg")
    server.answers["/away"] = answer(302, Location="http://localhost/")
    bad = {
        "url_fetch_failed": [by_url(server, "/404"), by_url(server, "/cat", "[::ffff:127.0.0.1]")],
        "invalid_image": [by_url(server, "/text")],
        "url_not_allowed": [by_url(server, "/away"), by_url(server, "/cat", "other.test"), {"image": "ftp://a/b"}],
    }
    inputs = [by_url(server, "/cat"), *[item for items in bad.values() for item in items], by_value("cat")]
    first, *wrong, last = post(client, "/embed", inputs=inputs, on_error="item")["data"]
    assert first["embedding"] == last["embedding"]
    codes = [entry["error"]["code"] for entry in wrong]
    assert codes == [code for code, items in bad.items() for _ in items]
    assert [entry["error"]["param"] for entry in wrong] == [f"inputs.{index}.image" for index in range(1, 7)]

    for index, code in enumerate(codes, start=1):
        response = client.post("/embed", json={"inputs": ["a cat", inputs[index]]})
        assert response.status_code == (424 if code == "url_fetch_failed" else 422)
        assert response.json()["error"] == {**wrong[index - 1]["error"], "param": "inputs.1.image"}


def test_one_request_fetches_a_few_at_a_time(client: httpx.Client, server: HttpsServer):
    post(client, "/embed", inputs=[by_url(server, "/cat")] * 40)
    assert len(server.requests) == 40
    assert server.peak <= 8


@pytest.mark.parametrize("way", ["hangs up", "has a deadline"])
def test_the_fetch_ends_with_its_request(client: httpx.Client, server: HttpsServer, way: str):
    body = {"inputs": [by_url(server, "/trickle"), by_value("cat")]}
    for seconds in (1, 5):  # the second for a machine that had not begun to fetch by then
        if way == "hangs up":
            with pytest.raises(httpx.ReadTimeout):
                client.post("/embed", json=body, timeout=seconds)
        else:
            response = client.post("/embed", json=body, headers={"x-request-timeout": str(seconds)})
            assert response.json()["error"]["code"] == "deadline_exceeded"
        if server.requests:
            break
    assert [path for path, _ in server.requests] == [f"/trickle?{SECRET}"]
    server.wait_until_closed()


FORMS = """
https://localhost:{port}/cat https://LOCALHOST:{port}/cat https://127.0.0.1:{port}/cat https://[::1]:{port}/cat
https://[0:0:0:0:0:0:0:1]:{port}/cat https://[::ffff:127.0.0.1]:{port}/cat https://[::ffff:7f00:1]:{port}/cat
https://127.1:{port}/cat https://2130706433:{port}/cat https://0x7f000001:{port}/cat https://0177.0.0.1:{port}/cat
https://0:{port}/cat https://0.0.0.0:{port}/cat https://[::]:{port}/cat https://127.0.0.2:{port}/cat
https://[::127.0.0.1]:{port}/cat https://[64:ff9b::7f00:1]:{port}/cat https://[2002:7f00:1::]:{port}/cat
https://localhost.:{port}/cat https://localhost%00:{port}/cat https://a@localhost:{port}/cat http://localhost:{port}/cat
https://[::1%25lo]:{port}/cat https://localhost:{port}\\@127.0.0.1/cat https://ⓛocalhost:{port}/cat
https://169.254.169.254/latest/meta-data/ file:///etc/passwd
"""


def test_no_form_of_a_private_address_is_connected_to(careful: Running, server: HttpsServer):
    inputs = [{"image": form} for form in FORMS.format(port=server.port).split()]
    with checking_client(careful) as client:
        for entry in post(client, "/embed", inputs=["a cat", *inputs], on_error="item")["data"][1:]:
            error = entry["error"]
            assert error["code"] == "url_not_allowed", (inputs[entry["index"] - 1], error)
            assert "127" not in error["message"]
        for path in ("/embed", "/classify"):
            labels = {"labels": ["a cat"]} if path == "/classify" else {}
            response = client.post(path, json={"inputs": inputs[0], **labels})
            assert response.status_code == 422
            assert response.json()["error"]["param"] == "inputs.image"
    assert server.connections == 0


def test_off_unless_hosts_are_listed(service: Running, server: HttpsServer):
    with checking_client(service) as client:
        response = client.post("/embed", json={"inputs": by_url(server, "/cat")})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "url_not_allowed"
    assert server.connections == 0
