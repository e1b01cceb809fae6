from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from service.errors import ApiError
from service.inference.fetch import NOT_PUBLIC, Fetcher
from tests.service import pictures
from tests.service.https_server import HttpsServer, answer, raw, serving
from tests.service.internet import NAME, PRIVATE, PUBLIC, PUBLIC_6, Internet


@pytest.fixture
def server(host: HttpsServer) -> HttpsServer:
    host.reset()
    host.answers["/"] = answer(200, pictures.read("rocket"))
    return host


@pytest.fixture
def internet(server: HttpsServer) -> Internet:
    return Internet(server)


def test_a_picture(server: HttpsServer, internet: Internet, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answers["/cat.png"] = answer(200, pictures.read("rocket"), Set_Cookie="a=b", Content_Type="text/html")
    assert internet.get("/cat.png?size=1#top") == pictures.read("rocket")
    assert internet.asked == [NAME]
    assert internet.connected == [PUBLIC]
    [(path, headers)] = server.requests
    assert path == "/cat.png?size=1"
    assert headers.pop("User-Agent").startswith("sightword/")
    assert headers == {"Host": f"{NAME}:{server.port}", "Accept": "image/*", "Accept-Encoding": "identity"}


def test_connections_are_used_again(server: HttpsServer, internet: Internet):
    async def work(fetcher: Fetcher) -> None:
        for _ in range(3):
            assert await fetcher.fetch(internet.url(), None) == pictures.read("rocket")

    internet.run(work)
    assert server.connections == 1
    assert not any("Cookie" in headers for _, headers in server.requests)
    assert internet.admission.bytes == 0
    server.wait_until_closed()  # by aclose


def test_the_address_that_was_checked_is_the_one_connected_to(server: HttpsServer):
    """DNS rebinding: the first answer is public, the next one is not."""
    server.answers["/"] = answer(200, pictures.read("rocket"), Connection="close")
    internet = Internet(server, [PUBLIC], [PRIVATE])

    async def work(fetcher: Fetcher) -> None:
        assert await fetcher.fetch(internet.url(), None) == pictures.read("rocket")
        assert internet.asked == [NAME]
        with pytest.raises(ApiError) as refused:
            await fetcher.fetch(internet.url(), None)
        assert refused.value.code == "url_not_allowed"

    internet.run(work)
    assert internet.asked == [NAME, NAME]
    assert internet.connected == [PUBLIC]


def test_a_redirect_is_resolved_and_checked_again(server: HttpsServer):
    server.answers["/"] = answer(302, Location="/picture")
    internet = Internet(server, [PUBLIC], [PRIVATE])
    assert internet.refusal().code == "url_not_allowed"
    assert internet.connected == [PUBLIC]
    assert [path for path, _ in server.requests] == ["/"]


@pytest.mark.parametrize(
    "addresses",
    [[PRIVATE], ["10.0.0.1"], [PUBLIC, PRIVATE], [PUBLIC_6, PUBLIC, "::1"], ["::ffff:127.0.0.1"], ["fe80::1%lo"]],
    ids=" ".join,
)
def test_one_private_address_is_enough_to_refuse(server: HttpsServer, addresses: list[str]):
    internet = Internet(server, addresses)
    error = internet.refusal()
    assert (error.code, error.message) == ("url_not_allowed", NOT_PUBLIC)
    assert internet.connected == []
    assert server.connections == 0


@pytest.mark.parametrize("name", [NAME, "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_private_addresses_look_the_same_whether_anything_listens_there(server: HttpsServer, name: str):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for port in (server.port, silent.getsockname()[1]):
            internet = Internet(server, [PRIVATE])
            internet.port = port
            error = internet.refusal("/", name)
            assert (error.code, error.message) == ("url_not_allowed", NOT_PUBLIC)
    assert server.connections == 0


def test_a_dead_address_is_not_the_last_one(server: HttpsServer):
    internet = Internet(server, [PUBLIC_6, PUBLIC])
    internet.dead.add(PUBLIC_6)
    assert internet.get() == pictures.read("rocket")
    assert internet.connected == [PUBLIC_6, PUBLIC]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: HttpsServer, internet: Internet, status: int):
    for step in (1, 2, 3):
        server.answers[f"/{step}"] = answer(status, b"moved", Location="/" if step == 3 else f"{step + 1}")
    assert internet.get("/1") == pictures.read("rocket")
    server.answers["/"] = answer(status, Location="/1")
    error = internet.refusal("/1")
    assert error.code == "url_fetch_failed"
    assert "redirects more than 3 times" in error.message


@pytest.mark.parametrize(
    "location",
    [
        "http://pictures.test:{port}/picture",
        "//other.test:{port}/picture",
        "https://pictures.test/picture",
        "https://127.0.0.1:{port}/picture",
        "https://[::1]:{port}/picture",
        "https://2130706433:{port}/picture",
        "https://user@pictures.test:{port}/picture",
        "https://pictures.test:{port}\\@127.0.0.1/",
        "file:///etc/passwd",
        "/pict\ture",
        "/bild-\xfc",
    ],
)
def test_redirects_are_checked_as_urls_are(server: HttpsServer, internet: Internet, location: str):
    server.answers["/"] = answer(302, Location=location.format(port=server.port))
    server.answers["/picture"] = answer(200, b"secret")
    assert internet.refusal().code == "url_not_allowed"
    assert internet.connected == [PUBLIC]
    assert [path for path, _ in server.requests] == ["/"]


@pytest.mark.parametrize(
    "url", ["http://pictures.test:{port}/", "https://pictures.test/", "https://a.pictures.test:{port}/", ""]
)
def test_what_is_not_listed_is_not_resolved(internet: Internet, url: str):
    async def work(fetcher: Fetcher) -> None:
        with pytest.raises(ApiError) as refused:
            await fetcher.fetch(url.format(port=internet.port), None)
        assert refused.value.code == "url_not_allowed"

    internet.run(work)
    assert internet.asked == internet.connected == []


def test_a_host_that_cannot_be_reached(server: HttpsServer, monkeypatch: pytest.MonkeyPatch):
    """No such name, a name server that is silent, nobody there, no TLS, a stranger's certificate: all the same."""
    unknown, refused, slow = Internet(server, []), Internet(server), Internet(server, resolve_s=0.2)
    refused.dead.add(PUBLIC)

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(slow, "_getaddrinfo", never)
    with serving("other.test") as wrong_name, serving() as plain:
        stranger = Internet(server)
        stranger.ca_file = wrong_name.ca_file
        internets = [unknown, refused, slow, stranger, Internet(wrong_name), Internet(plain)]
        errors = [internet.refusal() for internet in internets]
    assert {error.code for error in errors} == {"url_fetch_failed"}
    assert len({error.message for error in errors}) == 1
    assert server.requests == wrong_name.requests == plain.requests == []


def test_the_log_names_the_host_and_nothing_after_it(
    server: HttpsServer, internet: Internet, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    server.answers["/secret-path"] = raw(b"HTTP/1.1 200 OK\r\nno header, but a secret echo\r\n\r\n")
    internet.refusal("/secret-path?key=secret-query#secret-fragment")
    assert NAME in caplog.text
    assert "secret" not in caplog.text
