"""The endpoints that do the work, found in the routers: one table for `/openapi.json` and for the direct dispatch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.request_context import RequestContext
from service.state import Service
from service.web.body import BodyReader


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route whose first parameter, `request`, is its body; the handler's signature says how that is read."""

    route: APIRoute
    reader: BodyReader[Any]

    @property
    def is_direct(self) -> bool:
        """Whether its path alone names it."""
        return self.route.methods == {"POST"} and "{" not in self.route.path


def find_endpoints(routers: Iterable[APIRouter]) -> list[Endpoint]:
    """Those of all routes that read a body."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    readers = [(route, _body_reader(route.endpoint)) for route in routes]
    return [Endpoint(route, reader) for route, reader in readers if reader is not None]


def _body_reader(handler: Callable[..., Any]) -> BodyReader[Any] | None:
    parameter = get_type_hints(handler, include_extras=True).get("request")
    for depends in getattr(parameter, "__metadata__", ()):
        reader = getattr(depends.dependency, "__self__", None)
        if isinstance(reader, BodyReader):
            return reader
    return None


class DirectDispatchMiddleware:
    """In front of FastAPI: a POST whose path alone names its endpoint goes straight to the handler.

    What FastAPI does for a request, solving dependencies and stacking contexts, takes half as long again as an answer
    from the cache (benchmarks/STEPS.md). A handler gets the same either way: its body, the service and the context.
    """

    def __init__(self, app: ASGIApp, endpoints: Iterable[Endpoint], service: Service) -> None:
        self.app, self.service = app, service
        self._handlers: dict[
            str, tuple[BodyReader[Any], Callable[[Any, Service, RequestContext], Awaitable[Response]]]
        ] = {
            endpoint.route.path: (endpoint.reader, endpoint.route.endpoint)
            for endpoint in endpoints
            if endpoint.is_direct
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or pass it on."""
        found = self._handlers.get(scope["path"]) if scope.get("method") == "POST" else None
        if found is None:
            await self.app(scope, receive, send)
            return
        reader, handler = found
        context: RequestContext = scope["state"]["context"]
        # No name for what was read: an answer that nobody reads would hold it.
        response = await handler(await reader.read(self.service, context), self.service, context)
        await response(scope, receive, send)
