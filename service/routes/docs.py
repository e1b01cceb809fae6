"""GET /docs: Swagger UI, under whatever path a proxy shows it.

Not by FastAPI's own root_path: with that, routes would also be found behind it (`/clip/metrics`), where no rule of a
proxy and no list of open paths looks for them.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse

from service.state import ServiceDep

router = APIRouter(include_in_schema=False)
STATIC = "/static-offline-docs"  # its script and style, from this server: FastAPI's own page asks a CDN for them


@router.get("/docs")
async def docs(service: ServiceDep) -> HTMLResponse:
    """Send the page, which asks for the schema."""
    root_path = service.settings.root_path
    return get_swagger_ui_html(
        title="Sightword - Swagger UI",
        openapi_url=f"{root_path}/openapi.json",
        swagger_js_url=f"{root_path}{STATIC}/swagger-ui-bundle.js",
        swagger_css_url=f"{root_path}{STATIC}/swagger-ui.css",
        swagger_favicon_url=f"{root_path}{STATIC}/favicon.png",
    )
