"""The application: routers, error handlers, and the two layers around them."""

from __future__ import annotations

from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from service import __version__, openapi
from service.errors import (
    ApiError,
    answer_api_error,
    answer_http_exception,
    answer_validation,
    error_response,
    internal_error,
)
from service.limits import RequestLimits
from service.observe import Observe
from service.routes import classify, embed, health, info, similarity
from service.state import Service

DESCRIPTION = (
    "Embeddings of texts and images in one space, comparison, and zero-shot classification. "
    "Every error has one shape, and every answer carries `x-request-id` and `server-timing`."
)


def create_app(service: Service) -> ASGIApp:
    """Observe(RequestLimits(routes)): what is refused outside the routes is observed like everything else."""
    # The page at /docs, with its script and style from this server: the stock one asks a CDN for them.
    app = FastAPIOffline(
        title="Sightword", version=__version__, description=DESCRIPTION, redirect_slashes=False, redoc_url=None
    )
    app.state.service = service
    for routes in (embed, similarity, classify, info, health):
        app.include_router(routes.router)
    app.add_exception_handler(ApiError, answer_api_error)
    app.add_exception_handler(HTTPException, answer_http_exception)
    app.add_exception_handler(RequestValidationError, answer_validation)
    app.add_exception_handler(Exception, _answer_unforeseen)
    openapi.install(app)
    limits = RequestLimits(app, service.settings, service.shared.admission)
    return Observe(limits, service.metrics, lambda: service.draining)


def _answer_unforeseen(request: Request, error: Exception) -> Response:
    """Says nothing about the cause; Starlette raises it again, and Observe logs it."""
    return error_response(internal_error())
