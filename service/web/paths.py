"""One spelling for each path: what another parser could read as the same path is none of ours, and gets 404.

A proxy in front may have a rule for exactly `/metrics`. Escapes of letters and slashes, and control characters that a
pattern overlooks at its end, would lead past such a rule.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

# Escapes of control characters, of both slashes, and of what needs none: letters, digits and -._~ (RFC 3986, 2.3).
_OTHER_SPELLING = re.compile(
    rb"%(?:[01][0-9a-f]|7f|2f|5c|2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e)", re.ASCII | re.IGNORECASE
)


class ExactPaths:
    """The layer behind Auth, which has seen the decoded path, so that another spelling opens nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; its path as it was sent, which no route has, where that is another spelling."""
        if scope["type"] == "http" and _OTHER_SPELLING.search(scope["raw_path"]):
            scope["path"] = scope["raw_path"].decode("ascii")
        await self.app(scope, receive, send)
