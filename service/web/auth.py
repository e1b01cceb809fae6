"""Who is let in: whatever is not named here as open wants a key. Pure ASGI, before anything reads the body."""

from __future__ import annotations

import ipaddress
import logging

from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import ApiError, error_response
from service.keys import Keys

log = logging.getLogger(__name__)
OPEN = ("/health/", "/playground/")
HOME = "/"  # the page of the playground
HOW = "as `Authorization: Bearer <key>` or as `x-api-key: <key>`"
NEEDS_KEY = error_response(ApiError("invalid_api_key", f"Send one valid API key, {HOW}."))
NEEDS_ADMIN_KEY = error_response(ApiError("invalid_api_key", f"This is for the operator: send the admin key, {HOW}."))
CLOSED = error_response(
    ApiError("invalid_api_key", "This is closed; the operator opens it by setting SIGHTWORD_ADMIN_KEY.")
)


def is_open(path: str) -> bool:
    """Whether everybody may have this path, whatever the settings are."""
    return path == HOME or path.startswith(OPEN)


def is_admin(path: str) -> bool:
    """Whether this path wants the admin key, whatever the settings are."""
    return path == "/admin" or path.startswith("/admin/")


def warn_if_open(keys: Keys, host: str) -> None:
    """Tell the log of a service that a whole network can use."""
    if not keys.required and not _is_loopback(host):
        log.warning("whoever reaches %s may use this service: there are no API keys; see SIGHTWORD_API_KEYS", host)


class Auth:
    """The layer between Observe and RequestLimits."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http":
            if is_admin(scope["path"]):
                allowed, refusal = self._is_admin(scope), NEEDS_ADMIN_KEY if self.keys.has_admin else CLOSED
            else:
                allowed, refusal = self.allows(scope), NEEDS_KEY
            if not allowed:
                scope["state"]["call"].error_code = "invalid_api_key"
                return await refusal(scope, receive, send)
        return await self.app(scope, receive, send)

    def _is_admin(self, scope: Scope) -> bool:
        key = _presented(scope)
        return key is not None and self.keys.is_admin(key)

    def allows(self, scope: Scope) -> bool:
        """Whether the request may have what is not /admin."""
        if not self.keys.required or is_open(scope["path"]):
            return True
        key = _presented(scope)
        return key is not None and self.keys.is_client(key)


def _presented(scope: Scope) -> bytes | None:
    """The one key of a request. Two different ones are none: it is not for us to choose whose request this is."""
    keys = set()
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            keys.add(value.strip())
        elif name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                keys.add(token.strip())
    return keys.pop() if len(keys) == 1 else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
