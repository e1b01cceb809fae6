"""Paths of the operator's choice for what has another one: platforms say where they will ask."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from service.settings import PREFIX, Settings, SettingsError
from service.web.health_paths import READY_ALIASES, is_health

INVOCATIONS, READY = "/invocations", "/health/ready"


def path_aliases(settings: Settings, native_paths: Collection[str]) -> dict[str, str]:
    """Our paths, by those of the settings. Raises SettingsError for one that would hide another of ours."""
    aliases = {}
    if route := settings.predict_route:
        if "sagemaker" not in settings.apis:
            raise SettingsError(f"{PREFIX}PREDICT_ROUTE is of the API sagemaker, which {PREFIX}APIS leaves out")
        if route in native_paths or is_health(route):
            raise SettingsError(f"{PREFIX}PREDICT_ROUTE: {route} is a path of the service already; choose another")
        aliases[route] = INVOCATIONS
    if (route := settings.health_route) and route not in READY_ALIASES:
        if route != READY and (route in native_paths or is_health(route) or route in aliases):
            raise SettingsError(f"{PREFIX}HEALTH_ROUTE: {route} is a path of the service already; choose another")
        aliases[route] = READY
    return {route: path for route, path in aliases.items() if route != path}


class PathAliasMiddleware:
    """Outside of keys and limits, so that a path of the settings has those of the path that it stands for."""

    def __init__(self, app: ASGIApp, aliases: Mapping[str, str]) -> None:
        self.app, self.aliases = app, aliases

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under the path that is meant."""
        if scope["type"] == "http" and scope["path"] in self.aliases:
            scope["path"] = self.aliases[scope["path"]]
        await self.app(scope, receive, send)
