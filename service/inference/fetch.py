"""Pictures by URL: only over https, only from the operator's hosts, only from addresses that were checked."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from ipaddress import ip_address

import httpcore2

from model import __version__
from service.addresses import (
    MAX_URL_CHARACTERS,
    Address,
    HostRule,
    Network,
    Url,
    is_allowed,
    literal,
    parse_network,
    unmapped,
)
from service.admission import Admission, ByteReservation
from service.errors import ApiError, without_frames
from service.settings import Settings

KEEP_ALIVE_S = 2.0  # less than servers keep theirs, so that none is reused in the moment in which it ends
ADDRESSES_TRIED = 4  # of a host that has more
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 3
CHUNKS_AT_A_TIME = 64  # then other requests have a turn
# OSError: names that cannot be resolved, not in time either, and TLS that breaks in the middle.
FAILURES = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError)
NOT_PLAIN = (
    "A URL, and where it redirects to, has the form https://host/path, without user name, spaces or backslashes, in "
    f"at most {MAX_URL_CHARACTERS} characters of ASCII."
)
NOT_LISTED = "Pictures are fetched only from the hosts that /info lists as url_hosts; send the file itself."
NOT_PUBLIC = "Pictures are fetched only from public addresses, and this host has another; send the file itself."
SEND_IT = "Send the file itself."
_NOT_FETCHED = "This picture could not be fetched: "
_TOO_SLOW, _NOT_REACHED = "it took more than ", "its host could not be reached over https, or broke off"
_MAY_PASS = re.compile(f"{_NOT_FETCHED}({_TOO_SLOW}|{_NOT_REACHED}|its host answered (408|425|429|5[0-9][0-9])\\b)")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What fetching may take."""

    concurrency: int = 32  # fetches at once, of all requests
    total_s: float = 10.0  # redirects included
    connect_s: float = 3.0  # for each address, and again for the TLS handshake
    resolve_s: float = 3.0
    max_chunks: int = 50_000  # 32 MiB in chunks of less than 700 bytes is an attack on our time


class Fetcher:
    """Fetches from the hosts in the settings. Keeps no cookies, sends no credentials and asks no proxy."""

    def __init__(self, settings: Settings, admission: Admission, limits: FetchLimits | None = None) -> None:
        self._rules = [HostRule.parse(text) for text in settings.url_hosts]
        self._max_bytes = settings.max_body_bytes
        self._admission = admission
        self._limits = limits = limits or FetchLimits()
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._pool = httpcore2.AsyncConnectionPool(
            # Made here rather than at the first picture, so that a bad SSL_CERT_FILE is told at the start.
            ssl_context=httpcore2.default_ssl_context() if self._rules else None,
            max_connections=limits.concurrency,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=CheckedNetwork([parse_network(text) for text in settings.url_networks], limits.resolve_s),
        )

    async def fetch(self, url: str, reservation: ByteReservation | None) -> bytes:
        """The file at `url`, its bytes counted in `reservation`. ApiErrors name no field."""
        if reservation is None:
            with self._admission.reserve_bytes() as own:
                return await self.fetch(url, own)
        target = self._allowed(Url.parse, url)
        async with self._slots:
            try:
                async with asyncio.timeout(self._limits.total_s):
                    return await self._follow(target, reservation)
            except TimeoutError:
                raise _failed(f"{_TOO_SLOW}{self._limits.total_s:g} s") from None

    async def _follow(self, url: Url, reservation: ByteReservation) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(url, reservation)
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise _failed(f"it redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: Url, reservation: ByteReservation) -> bytes | Url:
        """The file, or where it is said to be."""
        request = self._pool.stream(
            "GET",
            httpcore2.URL(scheme="https", host=url.host, port=url.port, target=url.target),
            headers={
                "Host": url.authority,
                "User-Agent": f"sightword/{__version__}",
                "Accept": "image/*",
                "Accept-Encoding": "identity",
            },
            extensions={"timeout": {"connect": self._limits.connect_s}},
        )
        try:
            async with request as response:
                headers = {name.lower(): value for name, value in response.headers}
                if response.status in REDIRECTS and b"location" in headers:
                    return self._allowed(url.join, headers[b"location"].decode("latin-1"))
                if response.status != 200:
                    raise _failed(f"its host answered {response.status}")
                return await self._read(response, headers, reservation)
        except FAILURES as error:
            # Protocol errors quote what the host sent, which may be the query.
            reason = type(error).__name__ if isinstance(error, httpcore2.ProtocolError) else repr(error)
            log.info("could not fetch from %s: %s", url.host, reason)
            raise _failed(_NOT_REACHED) from None

    async def _read(
        self, response: httpcore2.Response, headers: Mapping[bytes, bytes], reservation: ByteReservation
    ) -> bytes:
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise _failed("its host sent it compressed, unasked")
        if int(headers.get(b"content-length", b"0")) > self._max_bytes:  # digits: the protocol's parser saw to that
            raise self._too_large()
        file = bytearray()
        chunks = 0
        try:
            async with aclosing(response.aiter_stream()) as stream:
                async for chunk in stream:
                    chunks += 1
                    if len(file) + len(chunk) > self._max_bytes:
                        raise self._too_large()
                    if chunks > self._limits.max_chunks:
                        raise _failed("its host sent it in too small pieces")
                    reservation.add(len(chunk))
                    file += chunk
                    if chunks % CHUNKS_AT_A_TIME == 0:
                        await asyncio.sleep(0)
        except BaseException:
            reservation.release(len(file))
            raise
        return bytes(file)

    def _allowed(self, parse: Callable[[str], Url], text: str) -> Url:
        try:
            url = parse(text)
        except ValueError:
            raise ApiError("url_not_allowed", NOT_PLAIN) from None
        if not any(rule.allows(url) for rule in self._rules):
            raise ApiError("url_not_allowed", NOT_LISTED)
        return url

    def _too_large(self) -> ApiError:
        return _failed(f"it is over the limit of {self._max_bytes} bytes")

    async def aclose(self) -> None:
        """End the connections."""
        await self._pool.aclose()


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Resolves a name once, checks every address it has, and connects to one of these: there is no second answer."""

    def __init__(self, networks: Sequence[Network], resolve_s: float) -> None:
        self._networks, self._resolve_s = networks, resolve_s
        self._tcp = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection that awaits TLS. Raises `url_not_allowed` if any address of the host is not allowed."""
        failure: Exception = httpcore2.ConnectError("the name has no address")
        try:
            for address in await self._addresses(host, port):
                try:
                    return AwaitsTls(await self._tcp.connect_tcp(str(address), port, timeout))
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                    failure = without_frames(error)
            raise failure
        finally:
            del failure  # raised in this frame, it would lead back to it

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        address = literal(host)
        addresses = await self._resolve(host, port) if address is None else [address]
        if not all(is_allowed(address, self._networks) for address in addresses):
            raise ApiError("url_not_allowed", NOT_PUBLIC)
        return [unmapped(address) for address in addresses[:ADDRESSES_TRIED]]

    async def _resolve(self, host: str, port: int) -> list[Address]:
        async with asyncio.timeout(self._resolve_s):
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [ip_address(sockaddr[0]) for *_, sockaddr in answers]


class AwaitsTls(httpcore2.AsyncNetworkStream):
    """A connection that can do nothing before its TLS handshake, and ends if that is cancelled."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The encrypted connection, to a host that has proved its name."""
        try:
            return await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self._stream.aclose()  # httpcore2 does so after errors, but not when it is cancelled
            raise


def may_pass(message: str) -> bool:
    """Whether what the message of an error says of a fetch may be otherwise later: its host was busy, or not reached.

    Not where it is not allowed, nor where the host has no such file, or one that is refused.
    """
    return _MAY_PASS.match(message) is not None


def _failed(why: str) -> ApiError:
    return ApiError("url_fetch_failed", f"{_NOT_FETCHED}{why}. {SEND_IT}")
