"""Which API a path belongs to, for the shape of its errors: also of those from before there is a route."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter

from service.errors import NATIVE_ERRORS, ErrorShape


class ErrorShapes:
    """The shapes of errors, by path."""

    def __init__(self, apis: Iterable[tuple[APIRouter, ErrorShape]], native_paths: Iterable[str] = ()) -> None:
        """`native_paths` are found sooner; whatever else no API has is native, too."""
        paths = [(getattr(route, "path", ""), shape) for router, shape in apis for route in router.routes]
        self._static = {path: shape for path, shape in paths if "{" not in path}
        self._static = dict.fromkeys(native_paths, NATIVE_ERRORS) | self._static
        self._prefixes = [(path.partition("{")[0], shape) for path, shape in paths if "{" in path]

    def find(self, path: str) -> ErrorShape:
        """The shape of errors at a path; the native one where no compatible API has it."""
        shape = self._static.get(path)
        if shape is None:
            shape = next((shape for prefix, shape in self._prefixes if path.startswith(prefix)), NATIVE_ERRORS)
        return shape

    @property
    def all(self) -> set[ErrorShape]:
        """Every shape that may be found."""
        return {NATIVE_ERRORS, *self._static.values(), *(shape for _, shape in self._prefixes)}
