"""The way to the routes that do the work: by path alone.

FastAPI documents them like all others, but what it does for a request, solving dependencies and stacking contexts,
takes longer than an answer from the cache. They need none of it: each reads its body itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.request_context import RequestContext
from service.state import Service
from service.web.body import Body

Endpoint = Callable[[Body, Service, RequestContext], Awaitable[Response]]


class Direct:
    """The layer between RequestLimits, which answers an ApiError, and FastAPI."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint], service: Service) -> None:
        """`endpoints` by the path to which they are posted."""
        self.app, self.endpoints, self.service = app, endpoints, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or pass it on."""
        endpoint = self.endpoints.get(scope["path"]) if scope.get("method") == "POST" else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        response = await endpoint(Body(scope, self.service), self.service, scope["state"]["call"])
        await response(scope, receive, send)
