"""Connections to Redis, and the few kinds of its failures."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.settings import PREFIX, SettingsError

KINDS = ("timeout", "connection", "auth", "full", "refused", "protocol", "dropped")


class TlsConnection(SSLConnection):
    """Takes its TLS context from outside: making one reads the system's certificates, too slow for the event loop."""

    def __init__(self, *, tls: RedisSSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context = tls


def connect(url: SecretStr, *, connections: int, timeout_s: float | None = None) -> Redis:
    """A client for the setting `redis_url`. No connection is opened yet.

    It holds at most so many connections, gives bytes and retries nothing. `timeout_s` bounds connecting, each write and
    each read; with None the caller bounds the whole call. Raises SettingsError, without the URL, if that is no good.
    """
    ours: dict[str, Any] = {
        "max_connections": connections,
        "timeout": timeout_s,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # no handshake before the first command
        "driver_info": None,
        "decode_responses": False,
    }
    try:
        options = {**parse_url(url.get_secret_value()), **ours}
        if options.get("connection_class") is SSLConnection:
            first = BlockingConnectionPool(**options).make_connection()  # type: ignore[no-untyped-call]
            first.ssl_context.get()
            options |= {"connection_class": TlsConnection, "tls": first.ssl_context}
        pool = BlockingConnectionPool(**options)
        pool.make_connection()  # type: ignore[no-untyped-call]  # tells of options that there are not
    except Exception:  # its message may hold a part of the password
        raise SettingsError(
            f"{PREFIX}REDIS_URL (--redis-url): expected redis://[user:password@]host[:port][/database], "
            "or rediss:// for TLS"
        ) from None
    return Redis.from_pool(pool)


def kind_of(error: Exception) -> str:
    """Which of the KINDS a failed call is."""
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "timeout"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "full"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError | exceptions.NoPermissionError):
        return "auth"
    if isinstance(error, exceptions.ResponseError):
        return "auth" if str(error).startswith(("NOAUTH", "WRONGPASS")) else "refused"
    if isinstance(error, exceptions.BusyLoadingError):
        return "refused"
    if isinstance(error, exceptions.ConnectionError | OSError):
        return "connection"
    return "protocol"
