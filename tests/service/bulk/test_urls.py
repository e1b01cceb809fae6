"""Columns of URLs: fetched by the rules of the service, in the order of the rows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.bulk.sources import Item, SourceOptions, fetching, may_pass
from tests.service.bulk.reading import read_all
from tests.service.https_server import Handler, HttpsServer, answer, serving

Fetch = Callable[..., list[Item]]


@pytest.fixture(scope="module")
def server() -> Iterator[HttpsServer]:
    with serving("127.0.0.1") as server:
        yield server


@pytest.fixture
def fetch(server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setenv("SSL_CERT_FILE", server.ca_file)
    monkeypatch.setattr(fetching, "RETRY_AFTER_S", 0.01)
    server.reset()

    def run(*urls: str, networks: tuple[str, ...] = ("127.0.0.0/8",)) -> list[Item]:
        rows = [url if "://" in url else f"https://127.0.0.1:{server.port}{url}" for url in urls]
        (tmp_path / "t.csv").write_text("\n".join(["url", *rows]) + "\n", "utf-8")
        return read_all(
            tmp_path / "t.csv",
            options=SourceOptions(
                url_hosts=(f"127.0.0.1:{server.port}",), url_networks=networks, max_body_bytes=2000, part_rows=100
            ),
        )

    return run


def test_pictures_are_in_the_order_of_their_rows(server: HttpsServer, fetch: Fetch) -> None:
    for number in range(80):
        server.answers[f"/{number}.jpg"] = answer(200, b"picture %d" % number)
    items = fetch(*(f"/{number}.jpg?size=1" for number in range(80)))
    assert [item.payload for item in items] == [b"picture %d" % number for number in range(80)]
    assert items[3].source == f"https://127.0.0.1:{server.port}/3.jpg?size=1"
    assert items[3].key == "t.csv#5"
    assert server.peak <= fetching.AT_ONCE


def test_what_cannot_be_fetched_is_an_item_with_the_reason(server: HttpsServer, fetch: Fetch) -> None:
    server.answers |= {"/good": answer(200, b"x"), "/gone": answer(404, b""), "/large": answer(200, b"x" * 3000)}
    server.answers["/empty"] = answer(200, b"")
    items = fetch("/good", "/gone", "/large", "/empty", "https://other.test/a.jpg", "http://127.0.0.1/a.jpg")
    assert [item.error for item in items] == [
        None,
        "This picture could not be fetched: its host answered 404",
        "This picture could not be fetched: it is over the limit of 2000 bytes",
        "its host sent nothing",
        "its host, or that which it redirects to, is none of SIGHTWORD_URL_HOSTS",
        "only plain https:// URLs are fetched, without user name, spaces or characters outside ASCII",
    ]
    assert [path for path, _ in server.requests].count("/gone") == 1  # it would be gone again
    assert not any(may_pass(item.error) for item in items if item.error)


def test_one_more_try_where_it_may_help(server: HttpsServer, fetch: Fetch) -> None:
    tries: list[str] = []

    def busy_at_first(handler: Handler) -> None:
        tries.append(handler.path)
        answer(503 if tries.count(handler.path) < 2 else 200, b"x")(handler)

    server.answers |= {"/busy": busy_at_first, "/down": answer(503, b"")}
    server.answers |= {
        "/limited": answer(429, b""),
        "/broken": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    }
    busy, down, limited, broken = fetch("/busy", "/down", "/limited", "/broken")
    assert all(may_pass(str(item.error)) for item in (down, limited, broken)), (down, limited, broken)
    assert busy.payload == b"x"
    assert "its host answered 503" in str(down.error)
    assert [path for path, _ in server.requests].count("/down") == 2


def test_private_addresses_are_refused_unless_they_are_allowed(server: HttpsServer, fetch: Fetch) -> None:
    server.answers["/a"] = answer(200, b"x")
    [item] = fetch("/a", networks=())
    assert (
        item.error == "its host has an address that is not public; those of SIGHTWORD_URL_NETWORKS may be fetched from"
    )
    assert not server.requests
