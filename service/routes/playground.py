"""GET / and /playground/...: the page in the browser, from memory; it asks this server only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from service.errors import ApiError

router = APIRouter(include_in_schema=False)

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
HEADERS = {
    "cache-control": "no-cache",  # asks each time, with the ETag: a page and scripts of two versions never mix
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
}
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
}
INDEX = "index.html"


class File(NamedTuple):
    """A static file as it is sent."""

    body: bytes
    media_type: str
    etag: str


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """Send the playground."""
    return _answer(request, FILES[INDEX])


@router.api_route("/playground/{path:path}", methods=["GET", "HEAD"])
async def static(request: Request, path: str) -> Response:
    """Send one of its files. Raises `not_found` for any other path: nothing is looked up on the disk."""
    file = FILES.get(path)
    if file is None or path == INDEX:
        raise ApiError("not_found", "There is no such file; the page is at /.")
    return _answer(request, file)


def _answer(request: Request, file: File) -> Response:
    headers = {**HEADERS, "etag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


def _read(package: str, folder: str, prefix: str = "", start: str = "") -> Iterator[tuple[str, File]]:
    for file in files(package).joinpath(folder).iterdir():
        media_type = TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None and file.name.startswith(start):
            body = file.read_bytes()
            yield prefix + file.name, File(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


FILES = {
    **dict(_read("service", "playground")),
    **dict(_read("model", "probe_data", "samples/")),
    **dict(_read("fastapi_offline", "static", "swagger/", "swagger-ui")),  # of /docs, for a page that can send the key
}
"""By the path after /playground/."""
