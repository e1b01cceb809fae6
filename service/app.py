"""The application: routers, error handlers, and the middleware around them."""

from __future__ import annotations

from functools import partial

from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from model import __version__
from model.zeroshot import template_sets
from service.errors import (
    ApiError,
    ErrorResponse,
    handle_api_error,
    handle_http_exception,
    handle_validation_error,
    internal_error,
)
from service.routes import ROUTERS, docs
from service.routes.compat import enabled
from service.state import Service
from service.web import openapi
from service.web.auth import AuthMiddleware, CanonicalPathMiddleware, is_allowed
from service.web.endpoints import DirectDispatchMiddleware, find_endpoints
from service.web.error_shapes import ErrorShapes
from service.web.limits import RequestLimitsMiddleware
from service.web.observability import ObservabilityMiddleware
from service.web.path_aliases import PathAliasMiddleware, path_aliases

DESCRIPTION = (
    "Embeddings of texts and images in one space, comparison, and zero-shot classification. "
    "Every error has one shape, and every answer carries `x-request-id` and `server-timing`."
)
# FastAPI's own would send queries and exceptions, which hold content; ours is in service/tracing.py.
NO_TELEMETRY = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)


def create_app(service: Service) -> ObservabilityMiddleware:
    """FastAPI with all routes, inside the middleware."""
    app = FastAPIOffline(  # for the script and the style of /docs
        title="Sightword",
        version=__version__,
        description=DESCRIPTION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        static_url=docs.STATIC,
        telemetry=NO_TELEMETRY,
    )
    app.state.service = service
    template_sets()  # read now, and not at a request that may find no descriptor left
    apis = enabled(service.settings.apis)
    routers = [*ROUTERS, *(api.router for api in apis)]
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(ApiError, handle_api_error)
    app.add_exception_handler(HTTPException, handle_http_exception)
    app.add_exception_handler(RequestValidationError, handle_validation_error)
    app.add_exception_handler(Exception, _handle_unexpected)
    endpoints = find_endpoints(routers)
    native_paths = {getattr(route, "path", "") for router in ROUTERS for route in router.routes}
    aliases = path_aliases(service.settings, native_paths)
    openapi.install(app, endpoints, service.keys.required, service.settings.root_path, aliases, service.model_id)
    paths = [getattr(route, "path", "") for router in (app.router, *routers) for route in router.routes]
    # From the inside out. What is refused outside the routes is observed, too.
    layers: ASGIApp = DirectDispatchMiddleware(app, endpoints, service)
    layers = RequestLimitsMiddleware(layers, service.settings, service.shared.admission)
    layers = CanonicalPathMiddleware(layers)
    layers = AuthMiddleware(layers, service.keys)
    if aliases:
        layers = PathAliasMiddleware(layers, aliases)
    return ObservabilityMiddleware(
        layers,
        paths,
        ErrorShapes(((api.router, api.error_shape) for api in apis), native_paths),
        service.metrics,
        draining=lambda: service.draining,
        free=lambda: service.shared.admission.free,
        allows=partial(is_allowed, service.keys),
        traces=service.traces,
    )


async def _handle_unexpected(request: Request, error: Exception) -> Response:
    """Says nothing about the cause; Starlette raises it again, and ObservabilityMiddleware logs it."""
    return ErrorResponse(internal_error())
