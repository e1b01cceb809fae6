"""Requests that are not quite HTTP, or two things at once: refused once, in one shape, and never taken for another."""

from __future__ import annotations

import json

import pytest

from benchmarks.service_process import Running
from tests.service.raw import LAST, answer, connected, exchange, post, refused, request, statuses, until_closed

TEXT = b'{"inputs": "a cat"}'
CHUNKED = "transfer-encoding: chunked"
LIVE = request("/health/live")
LAST_LIVE = request("/health/live", LAST)


class TestHeads:
    @pytest.mark.parametrize(
        "sent",
        [
            b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
            request("/info", "a: " + "x" * 70_000),
            request("/info", *(f"a{n}: {'x' * 90}" for n in range(1000))),
            b"GET /info HTTP/1.1\r\na: " + b"x" * 1_000_000,
            b"\r\n" * 100_000,
        ],
        ids=["address", "one header", "many headers", "no end", "empty lines"],
    )
    def test_too_large(self, service: Running, sent: bytes) -> None:
        refused(exchange(service, sent), 431, "invalid_request")

    def test_too_large_in_small_pieces(self, service: Running) -> None:
        pieces = [b"GET /info HTTP/1.1\r\n", *[b"a: " + b"x" * 1000 + b"\r\n"] * 70]
        refused(exchange(service, *pieces, pause_s=0.001), 431, "invalid_request")

    def test_a_large_one_within_the_limit(self, service: Running) -> None:
        assert statuses(exchange(service, request("/health/live", "a: " + "x" * 60_000, LAST))) == [200]

    def test_after_a_chunked_body(self, service: Running) -> None:
        """Trailers neither become headers of the request nor fill the memory."""
        head = request("/embed", CHUNKED, LAST, "content-type: application/json", method="POST")
        body = b"%x\r\n%s\r\n0\r\n" % (len(TEXT), TEXT)
        assert statuses(exchange(service, head + body + b"content-encoding: gzip\r\n\r\n")) == [200]
        refused(exchange(service, head + body, *[b"a: " + b"x" * 1000 + b"\r\n"] * 300), 431, "invalid_request")
        refused(exchange(service, head + b"5;" + b"x" * 200_000), 431, "invalid_request")


MALFORMED = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no such method": request("/info", method="FETCH"),
    "a method without end": b"A" * 5000,
    "lower case": request("/info", method="get"),
    "null byte in the address": b"GET /in\x00fo HTTP/1.1\r\n\r\n",
    "null byte in a header": request("/info", "a: b\x00c"),
    "no such version": b"GET /info HTTP/9.9\r\n\r\n",
    "space before the colon": request("/info", "a : b"),
    "folded header": request("/info", "a: b", " c"),
    "bare line feeds in a header": b"GET /info HTTP/1.1\r\na: b\nx: y\r\n\r\n",
    "a fragment": request("/health/live#x"),
    "a fragment of an absolute address": request("http://example.com/metrics#/health/live"),
    "a control character in the address": request("/metrics\x01"),
    "a tab in the address": request("/metrics\t"),
    "a byte beyond ASCII in the address": b"GET /metrics\xff HTTP/1.1\r\n\r\n",
    "CONNECT": request("example.com:443", method="CONNECT"),
    "both lengths": post(TEXT, CHUNKED),
    "two lengths": post(TEXT, "content-length: 3"),
    "the same length twice": post(TEXT, f"content-length: {len(TEXT)}"),
    "a negative length": request("/embed", "content-length: -1", method="POST"),
    "a length with a sign": request("/embed", "content-length: +5", method="POST", body=b"12345"),
    "a length beyond numbers": request("/embed", "content-length: 99999999999999999999999", method="POST"),
    "an unknown coding": request("/embed", "transfer-encoding: xchunked", method="POST", body=TEXT),
    "chunked, but not last": request("/embed", "transfer-encoding: chunked, gzip", method="POST", body=TEXT),
    "no chunk size": request("/embed", CHUNKED, method="POST", body=b"zz\r\nabc\r\n"),
    "a chunk size beyond numbers": request("/embed", CHUNKED, method="POST", body=b"f" * 40 + b"\r\nabc\r\n"),
    "a negative chunk size": request("/embed", CHUNKED, method="POST", body=b"-1\r\nabc\r\n"),
    "a chunk longer than it says": request("/embed", CHUNKED, method="POST", body=b"2\r\nabcd\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_are_refused_once_and_the_connection_ends(service: Running, sent: bytes) -> None:
    """Also where a proxy in front could see two requests in it: nothing is served from what follows."""
    refused(exchange(service, sent + LAST_LIVE), 400, "invalid_request")


ODD = {
    "a method that is not for here": (request("/info", LAST, method="PROPFIND"), 405),
    "TRACE": (request("/info", LAST, method="TRACE"), 405),
    "HEAD of what there is not": (request("/nothing", LAST, method="HEAD"), 404),
    "absolute address": (request("http://example.com/health/live", LAST), 200),
    "absolute address without a path": (request("http://example.com", LAST), 400),
    "asterisk": (request("*", LAST, method="OPTIONS"), 404),
    "encoded null byte": (request("/info%00", LAST), 404),
    "encoded null byte of a static file": (request("/playground/a%00b", LAST), 404),
    "not UTF-8": (request("/%ff%fe", LAST), 404),
    "dots": (request("/playground/../../../etc/passwd", LAST), 404),
    "encoded dots": (request("/static-offline-docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd", LAST), 404),
    "encoded dots and a null byte": (request("/static-offline-docs/%2e%2e%2f%00", LAST), 404),
    "two slashes": (request("//info", LAST), 404),
    "a body where there is none to be": (request("/health/live", LAST, "content-length: 3", body=b"abc"), 200),
    "HTTP/0.9": (b"GET /health/live\r\n\r\n" + LIVE, 200),
    "HTTP/1.0": (b"GET /health/live HTTP/1.0\r\n\r\n", 200),
}


@pytest.mark.parametrize(("sent", "status"), ODD.values(), ids=ODD.keys())
def test_odd_requests_are_answered(service: Running, sent: bytes, status: int) -> None:
    assert statuses(exchange(service, sent)) == [status]


class TestPipelined:
    def test_answers_come_in_order(self, service: Running) -> None:
        asked = [
            post(json.dumps({"inputs": ["a cat"] * 64}).encode()),
            LIVE,
            request("/nothing"),
            post(b"{"),
            LAST_LIVE,
        ]
        assert statuses(exchange(service, b"".join(asked))) == [200, 200, 404, 422, 200]

    def test_what_is_malformed_is_refused_in_its_turn(self, service: Running) -> None:
        received = exchange(service, post(TEXT) + LIVE + b"nonsense\r\n\r\n" + LIVE)
        assert statuses(received) == [200, 200, 400]
        chunked = request("/embed", CHUNKED, method="POST", body=b"zz\r\n")
        assert statuses(exchange(service, post(TEXT) + LIVE + chunked + LIVE)) == [200, 200, 400]

    def test_too_many_are_not_held(self, service: Running) -> None:
        received = exchange(service, post(TEXT) + LIVE * 10_000)
        assert statuses(received)[-1] == 400
        assert len(statuses(received)) < 100
        assert set(statuses(received)[:-1]) == {200}


class TestBodies:
    def test_expect_100_continue(self, service: Running) -> None:
        with connected(service) as connection:
            connection.sendall(post(TEXT, "expect: 100-continue", LAST)[: -len(TEXT)])
            assert statuses(answer(connection)) == [100]
            connection.sendall(TEXT)
            assert statuses(until_closed(connection)) == [200]

    def test_a_body_that_would_be_refused_is_not_asked_for(self, service: Running) -> None:
        head = request("/embed", "expect: 100-continue", "content-length: 99999999999", LAST, method="POST")
        assert statuses(exchange(service, head)) == [413]

    @pytest.mark.parametrize("offer", ["h2c", "websocket"])
    def test_an_offer_of_another_protocol_is_ignored(self, service: Running, offer: str) -> None:
        """As Java's client makes it; the body belongs to the request, and is never taken for the next one."""
        offered = ("connection: upgrade, http2-settings", f"upgrade: {offer}", "http2-settings: AAEAAEAAAAIAAAAB")
        assert statuses(exchange(service, request("/health/live", *offered) + LIVE)) == [200]
        received = exchange(service, post(TEXT, *offered) + LIVE)
        assert statuses(received) == [200]
        assert b'"usage":{"texts":1' in received
        head, body = post(LIVE, *offered)[: -len(LIVE)], LIVE
        assert statuses(exchange(service, head, body[:9], body[9:], pause_s=0.05)) == [422]
        chunked = request("/embed", CHUNKED, *offered, method="POST", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(TEXT), TEXT))
        assert statuses(exchange(service, chunked + LIVE)) == [200]
