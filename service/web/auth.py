"""Who is let in, and under which spelling of a path. Pure ASGI, before anything reads the body.

Whatever is not named here as open wants a key. Each path has one spelling: what another parser could read as the same
path is none of ours, and gets 404. A proxy in front may have a rule for exactly `/metrics`; escapes of letters and
slashes, and control characters that a pattern overlooks at its end, would lead past such a rule.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ApiError, ErrorResponse
from service.keys import Keys

log = logging.getLogger(__name__)
OPEN_PREFIXES = ("/health/", "/playground/")
PLAYGROUND = "/"
# Where a key may also be in the query, since clients of Roboflow can send it nowhere else; it is never logged.
QUERY_KEY_PREFIX, QUERY_KEY = "/clip", "api_key"
HOW = "as `Authorization: Bearer <key>` or as `x-api-key: <key>`"
NEEDS_KEY = ErrorResponse(ApiError("invalid_api_key", f"Send one valid API key, {HOW}."))
NEEDS_ADMIN_KEY = ErrorResponse(ApiError("invalid_api_key", f"This is for the operator: send the admin key, {HOW}."))
ADMIN_CLOSED = ErrorResponse(
    ApiError("invalid_api_key", "This is closed; the operator opens it by setting SIGHTWORD_ADMIN_KEY.")
)
# Escapes of control characters, of both slashes, and of what needs none: letters, digits and -._~ (RFC 3986, 2.3).
_NOT_CANONICAL = re.compile(
    rb"%(?:[01][0-9a-f]|7f|2f|5c|2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.ASCII | re.IGNORECASE
)


def is_open(path: str) -> bool:
    """Whether this path never wants a key."""
    return path == PLAYGROUND or path.startswith(OPEN_PREFIXES)


def is_admin(path: str) -> bool:
    """Whether this path always wants the admin key."""
    return path == "/admin" or path.startswith("/admin/")


def warn_if_open(keys: Keys, host: str) -> None:
    """Log a warning where a whole network can use the service without a key."""
    if not keys.required and not _is_loopback(host):
        log.warning("whoever reaches %s may use this service: there are no API keys; see SIGHTWORD_API_KEYS", host)


class AuthMiddleware:
    """Answers 401 to a request without the key that its path wants."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http":
            if is_admin(scope["path"]):
                allowed, refusal = self._is_admin(scope), NEEDS_ADMIN_KEY if self.keys.has_admin else ADMIN_CLOSED
            else:
                allowed, refusal = is_allowed(self.keys, scope), NEEDS_KEY
            if not allowed:
                scope["state"]["context"].error_code = "invalid_api_key"
                return await refusal(scope, receive, send)
        return await self.app(scope, receive, send)

    def _is_admin(self, scope: Scope) -> bool:
        key = _api_key(scope)
        return key is not None and self.keys.is_admin(key)


class CanonicalPathMiddleware:
    """Behind AuthMiddleware, which has seen the decoded path, so that another spelling opens nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its path as it was sent, which no route has, where that is another spelling."""
        if scope["type"] == "http" and _NOT_CANONICAL.search(scope["raw_path"]):
            scope["path"] = scope["raw_path"].decode("ascii")
        await self.app(scope, receive, send)


def is_allowed(keys: Keys, scope: Scope) -> bool:
    """Whether the request may have its path, which is none of /admin."""
    if not keys.required or is_open(scope["path"]):
        return True
    key = _api_key(scope)
    return key is not None and keys.is_client(key)


def _api_key(scope: Scope) -> bytes | None:
    """The API key of a request, or None; two different ones are none, since either may be whose request this is."""
    keys = set()
    for name, value in scope["headers"]:
        if name in (b"x-api-key", b"api-key"):
            keys.add(value.strip())
        elif name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                keys.add(token.strip())
    if scope["path"].startswith(f"{QUERY_KEY_PREFIX}/"):
        keys.update(value for name, value in parse_qsl(scope["query_string"]) if name == QUERY_KEY.encode())
    return keys.pop() if len(keys) == 1 else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
