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

KINDS = ("timeout", "connection", "auth", "full", "readonly", "refused", "protocol", "dropped")
MAX_WORDS_CHARACTERS = 200
_NOT_PERMITTED = ("NOPERM", "ACL failure", "The user executing the script can't run")  # the last two: to a script
_OWN_WORDS = {"timeout": "no answer in time", "protocol": "what answers is not Redis"}


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
    if isinstance(error, exceptions.ReadOnlyError):
        return "readonly"
    if isinstance(error, exceptions.ResponseError):
        return _refusal(_reply(error))
    if isinstance(error, exceptions.BusyLoadingError):
        return "refused"
    if isinstance(error, exceptions.ConnectionError | OSError):
        return "connection"
    return "protocol"


def _refusal(words: str) -> str:
    """The kind by Redis' own code, which stands first, or further behind where a script was refused."""
    if words.startswith(("NOAUTH", "WRONGPASS")) or any(part in words for part in _NOT_PERMITTED):
        return "auth"
    if words.startswith("OOM") or "-OOM" in words:
        return "full"
    return "readonly" if words.startswith("READONLY") or "-READONLY" in words else "refused"


def _reply(error: Exception) -> str:
    """Of an error, what Redis answered: in a pipeline the client puts the command in front, with what it stores."""
    _, of_pipeline, reply = str(error).rpartition("caused error: ")
    return reply.strip("(,)\"'") if of_pipeline else reply


def address_of(redis: Redis) -> str:
    """Host and port, or the path of the socket."""
    options = redis.connection_pool.connection_kwargs
    return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")


def words_of(error: Exception, redis: Redis) -> str:
    """What Redis said, for the log: its first sentence, without what the client sent and so without any password."""
    if (own := _OWN_WORDS.get(kind_of(error))) is not None:
        return own
    # Redis repeats an unknown command with its arguments: those of AUTH are the password.
    words = _reply(error).partition("with args")[0].partition(". ")[0]
    if (code := getattr(error, "status_code", None)) not in (None, "ERR"):  # which the client cuts off
        words = f"{code} {words}"
    options = redis.connection_pool.connection_kwargs
    for secret in (options.get("password"), options.get("username")):
        if secret:
            words = words.replace(str(secret), "***")
    printable = "".join(character if character.isprintable() else "?" for character in words)
    return printable[:MAX_WORDS_CHARACTERS].strip(" .,") or type(error).__name__


def reason_of(error: Exception, redis: Redis) -> str:
    """The kind, and Redis' words where the kind does not say it all."""
    kind = kind_of(error)
    return kind if kind in ("full", "timeout") else f"{kind}: {words_of(error, redis)}"
