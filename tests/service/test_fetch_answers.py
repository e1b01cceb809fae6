from __future__ import annotations

import asyncio
import gc
import gzip
import threading

import pytest

from service.errors import ApiError
from service.inference.fetch import Fetcher
from tests.service.https_server import PATIENCE_S, Answer, Handler, HttpsServer, answer, raw
from tests.service.internet import MAX_BYTES, Internet

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + bytes(65536) + b"\r\n"
BROKEN, SLOW = "broke off", "took more than 0.5 s"
BAD: dict[str, tuple[str, Answer]] = {
    "404": ("answered 404", answer(404, b"no")),
    "500": ("answered 500", answer(500, b"no")),
    "204": ("answered 204", answer(204)),
    "206": ("answered 206", answer(206, b"part")),
    "no location": ("answered 302", answer(302)),
    "switched": (BROKEN, raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")),
    "too large": (f"over the limit of {MAX_BYTES} bytes", answer(200, Content_Length=str(MAX_BYTES + 1))),
    "enormous": ("over the limit", answer(200, Content_Length="9" * 20)),
    "endless": ("over the limit", raw(CHUNKED, endless=CHUNK)),
    "endless without length": ("over the limit", raw(OK + b"Connection: close\r\n\r\n", endless=bytes(65536))),
    "less than it says": (BROKEN, answer(200, bytes(1000), Content_Length="2000", Connection="close")),
    "two lengths": (BROKEN, raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
    "length below zero": (BROKEN, raw(OK + b"Content-Length: -1\r\n\r\nab")),
    "length of many digits": (BROKEN, raw(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nab")),
    "cut chunk": (BROKEN, raw(CHUNKED + b"ff\r\nabc")),
    "bad chunk": (BROKEN, raw(CHUNKED + b"zz\r\nabc\r\n")),
    "tiny chunks": ("too small pieces", raw(CHUNKED, endless=b"1\r\na\r\n" * 1000)),
    "gzip bomb": ("compressed", answer(200, gzip.compress(bytes(10**7)), Content_Encoding="gzip")),
    "gzip in transfer": (BROKEN, raw(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n")),
    "not HTTP": (BROKEN, raw(b"SSH-2.0-OpenSSH_9.6\r\n")),
    "nothing": (BROKEN, raw()),
    "endless headers": (BROKEN, raw(OK, endless=b"x: " + b"y" * 1000 + b"\r\n")),
    "endless header": (BROKEN, raw(OK + b"x: ", endless=b"y" * 1000)),
    "trickle": (SLOW, raw(OK + b"\r\n", endless=b"a", pause_s=0.01)),
    "trickle of a header": (SLOW, raw(OK + b"x: ", endless=b"a", pause_s=0.01)),
    "never the final answer": (SLOW, raw(endless=b"HTTP/1.1 100 Continue\r\n\r\n", pause_s=0.001)),
}


@pytest.fixture
def server(host: HttpsServer) -> HttpsServer:
    host.reset()
    return host


@pytest.mark.parametrize("name", BAD)
def test_bad_answers(server: HttpsServer, name: str):
    message, server.answers["/"] = BAD[name]
    error = Internet(server, max_chunks=1_000, total_s=0.5 if message == SLOW else 60).refusal()
    assert error.code == "url_fetch_failed"
    assert message in error.message
    server.wait_until_closed()


@pytest.mark.parametrize("size", [0, 1, MAX_BYTES])
def test_up_to_the_limit(server: HttpsServer, size: int):
    server.answers["/"] = answer(200, bytes(size))
    assert Internet(server).get() == bytes(size)
    server.answers["/"] = raw(CHUNKED, *[b"1\r\na\r\n"] * min(size, 1000), b"0\r\n\r\n")
    assert Internet(server).get() == b"a" * min(size, 1000)


@pytest.mark.parametrize("stage", ["handshake", "header", "body"])
def test_a_cancelled_fetch_hangs_up(server: HttpsServer, stage: str, recwarn: pytest.WarningsRecorder):
    server.stalls = stage == "handshake"
    server.answers["/"] = raw(OK + (b"x: " if stage == "header" else b"\r\n"), endless=b"a", pause_s=0.01)
    internet = Internet(server)

    async def work(fetcher: Fetcher) -> None:
        with internet.admission.reserve_bytes() as hold:
            task = asyncio.ensure_future(fetcher.fetch(internet.url(), hold))
            while not (server.open and (server.requests or server.stalls) and (hold.size or stage != "body")):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert hold.size == 0
            await asyncio.to_thread(server.wait_until_closed)  # while the fetcher is still there

    internet.run(work)
    gc.collect()
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]  # closed, not collected


def test_many_small_pieces_leave_others_a_turn(server: HttpsServer):
    server.answers["/"] = raw(CHUNKED, endless=b"1\r\na\r\n" * 2_000)
    internet = Internet(server, max_chunks=1_000)

    async def work(fetcher: Fetcher) -> int:
        seen = set()
        with internet.admission.reserve_bytes() as hold:
            task = asyncio.ensure_future(fetcher.fetch(internet.url(), hold))
            while not task.done():
                seen.add(hold.size)
                await asyncio.sleep(0)
        assert isinstance(task.exception(), ApiError)
        return len(seen)

    assert internet.run(work) > 10


def test_no_more_than_so_many_at_once(server: HttpsServer):
    at_work, peak, lock, pair = 0, 0, threading.Lock(), threading.Barrier(2, timeout=PATIENCE_S)

    def slow(handler: Handler) -> None:
        nonlocal at_work, peak
        with lock:
            at_work += 1
            peak = max(peak, at_work)
        pair.wait()
        threading.Event().wait(0.05)  # for a third, if it may come
        with lock:
            at_work -= 1
        answer(200, b"picture")(handler)

    server.answers["/"] = slow
    internet = Internet(server, concurrency=2)

    async def work(fetcher: Fetcher) -> list[bytes]:
        return await asyncio.gather(*[fetcher.fetch(internet.url(), None) for _ in range(6)])

    assert internet.run(work) == [b"picture"] * 6
    assert peak == 2


def test_bytes_that_do_not_fit_are_refused_while_they_come(server: HttpsServer):
    server.answers["/"] = answer(200, bytes(MAX_BYTES))
    internet = Internet(server, limit_bytes=MAX_BYTES)

    async def work(fetcher: Fetcher) -> None:
        with internet.admission.reserve_bytes() as others, internet.admission.reserve_bytes() as hold:
            others.add(1)
            with pytest.raises(ApiError) as refused:
                await fetcher.fetch(internet.url(), hold)
            assert refused.value.code == "overloaded"
            assert (hold.size, internet.admission.bytes) == (0, 1)
            others.release(1)
            assert len(await fetcher.fetch(internet.url(), hold)) == hold.size == MAX_BYTES

    internet.run(work)
