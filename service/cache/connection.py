"""Connecting to Redis, and classifying its errors for metrics and log lines."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.settings import PREFIX, SettingsError

KINDS = ("timeout", "connection", "auth", "full", "readonly", "refused", "protocol", "dropped")
MAX_MESSAGE_CHARACTERS = 200
_NOT_PERMITTED = ("NOPERM", "ACL failure", "The user executing the script can't run")  # the last two: to a script
_OWN_MESSAGES = {"timeout": "no answer in time", "protocol": "what answers is not Redis"}


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


def error_kind(error: Exception) -> str:
    """Classify the error of a failed call as one of KINDS."""
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "timeout"
    if isinstance(error, exceptions.OutOfMemoryError):
        return "full"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError | exceptions.NoPermissionError):
        return "auth"
    if isinstance(error, exceptions.ReadOnlyError):
        return "readonly"
    if isinstance(error, exceptions.ResponseError):
        return _reply_kind(_reply(error))
    if isinstance(error, exceptions.BusyLoadingError):
        return "refused"
    if isinstance(error, exceptions.ConnectionError | OSError):
        return "connection"
    return "protocol"


def _reply_kind(message: str) -> str:
    """Classify by the error code of the reply, which stands first, or further behind where a script was refused."""
    if message.startswith(("NOAUTH", "WRONGPASS")) or any(part in message for part in _NOT_PERMITTED):
        return "auth"
    if message.startswith("OOM") or "-OOM" in message:
        return "full"
    return "readonly" if message.startswith("READONLY") or "-READONLY" in message else "refused"


def _reply(error: Exception) -> str:
    """The reply of Redis in an error; in a pipeline the client puts the command before it, with what it stores."""
    _, of_pipeline, reply = str(error).rpartition("caused error: ")
    return reply.strip("(,)\"'") if of_pipeline else reply


def address(redis: Redis) -> str:
    """Host and port, or the path of the socket."""
    options = redis.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def error_message(error: Exception, redis: Redis) -> str:
    """The first sentence of Redis' error message for the log, without anything the client sent, such as a password."""
    if (own := _OWN_MESSAGES.get(error_kind(error))) is not None:
        return own
    # Redis repeats an unknown command with its arguments: those of AUTH are the password.
    message = _reply(error).partition("with args")[0].partition(". ")[0]
    if (code := getattr(error, "status_code", None)) not in (None, "ERR"):  # which the client cuts off
        message = f"{code} {message}"
    options = redis.connection_pool.connection_kwargs
    for secret in (options.get("password"), options.get("username")):
        if secret:
            message = message.replace(str(secret), "***")
    printable = "".join(character if character.isprintable() else "?" for character in message)
    return printable[:MAX_MESSAGE_CHARACTERS].strip(" .,") or type(error).__name__


def describe_failure(error: Exception, redis: Redis) -> str:
    """`kind: message` for a log line; the kind alone where it says it all."""
    kind = error_kind(error)
    return kind if kind in ("full", "timeout") else f"{kind}: {error_message(error, redis)}"
