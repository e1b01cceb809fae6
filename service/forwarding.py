"""Tasks that are for another server: faces and OCR, for a real machine learning server of immich.

It is the operator's, named in the settings: no address of it comes from a client, no redirect is followed, no proxy is
asked. A request waits for it no longer than for anything else here.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import httpcore2
import orjson

from model import __version__
from service.errors import ApiError
from service.settings import Settings

MAX_ANSWER_BYTES = 16 * 2**20
CONNECTIONS = 16
CONNECT_S = 3.0
KEEP_ALIVE_S = 2.0  # uvicorn, which immich's server runs on, keeps them for 5 s
FORWARDED = b"x-sightword-forwarded"  # in what was passed on once, and must not come back here
FAILURES = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException, OSError)
HOW = "SIGHTWORD_IMMICH_FORWARD_URL names the machine learning server of immich that such tasks are passed on to"

log = logging.getLogger(__name__)


class ImmichForwarder:
    """Passes tasks on to the server of SIGHTWORD_IMMICH_FORWARD_URL, if there is one."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.immich_forward_url.rstrip("/")
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpcore2.default_ssl_context() if self._url.startswith("https:") else None,
            max_connections=CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_S,
        )

    def check(self, tasks: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
        """Raise `unsupported_task` where these cannot be passed on."""
        if not self._url:
            message = f"This server embeds, and has no such task. {HOW}; there is none."
        elif FORWARDED in headers:
            message = f"This was passed on already. {HOW}; it leads back here."
        else:
            return
        raise ApiError("unsupported_task", message, f"entries.{next(iter(tasks))[:64]}")

    async def predict(self, tasks: Mapping[str, Any], image: bytes | None, text: str | None) -> dict[str, Any]:
        """The answer to these tasks. Raises `upstream_failed`."""
        boundary = secrets.token_hex(16)
        chunks = _form(boundary, tasks, image, text)
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(sum(map(len, chunks))),
            "User-Agent": f"sightword/{__version__}",
            "Accept-Encoding": "identity",
            FORWARDED: "1",
        }
        try:
            async with self._pool.stream(
                "POST",
                f"{self._url}/predict",
                headers=headers,
                content=_iterate(chunks),
                extensions={"timeout": {"connect": CONNECT_S}},
            ) as response:
                if response.status != 200:
                    raise _failed(f"answered {response.status}")
                content = await _read(response)
        except FAILURES as error:
            log.warning("could not pass a task on to %s: %s", self._url, type(error).__name__)
            raise _failed("could not be reached, or broke off") from None
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise _failed("answered no JSON object")
        return answer

    async def aclose(self) -> None:
        """End the connections."""
        await self._pool.aclose()


async def _read(response: httpcore2.Response) -> bytes:
    content = bytearray()
    async with aclosing(response.aiter_stream()) as stream:
        async for chunk in stream:
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise _failed(f"answered more than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _form(boundary: str, tasks: Mapping[str, Any], image: bytes | None, text: str | None) -> list[bytes]:
    """As immich itself writes it; the file is not copied."""
    try:
        entries = orjson.dumps(tasks)
    except orjson.JSONEncodeError:
        message = "This is nested too deeply, or holds half of a character."
        raise ApiError("invalid_request", message, "entries") from None
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    chunks = [(head % ("entries", "")).encode(), entries, b"\r\n"]
    if image is not None:
        file = '; filename="blob"\r\nContent-Type: application/octet-stream'
        chunks += [(head % ("image", file)).encode(), image]
    else:
        chunks += [(head % ("text", "")).encode(), (text or "").encode()]
    return [*chunks, f"\r\n--{boundary}--\r\n".encode()]


async def _iterate(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _failed(why: str) -> ApiError:
    return ApiError("upstream_failed", f"The machine learning server of immich that this was passed on to {why}.")
