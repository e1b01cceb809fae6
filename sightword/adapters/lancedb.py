"""LanceDB: `get_registry().get("sightword").create()`, once this module is imported.

sightword = get_registry().get("sightword").create(paths=True)

class Picture(LanceModel):
    path: str = sightword.SourceField()
    vector: Vector(sightword.ndims()) = sightword.VectorField()
"""

from __future__ import annotations

from typing import Any

from lancedb.embeddings import EmbeddingFunction, register

from sightword.adapters import open_model, picture


@register("sightword")
class SightwordEmbeddings(EmbeddingFunction):
    """A source column of bytes holds pictures; one of strings holds texts, or with `paths` where pictures are.

    A query is a text, or a picture as Pillow image, bytes or Path. LanceDB takes a key only as `$var:NAME`; without
    one, it is read from SIGHTWORD_API_KEY.
    """

    url: str | None = None
    api_key: str | None = None
    model: str | None = None
    dimensions: int | None = None
    paths: bool = False
    max_retries: int = 0  # the client tries again itself, and knows what is in vain

    @staticmethod
    def sensitive_keys() -> list[str]:
        """What no table stores."""
        return ["api_key"]

    def ndims(self) -> int:
        """The length of the vectors."""
        if self.dimensions is not None:
            return self.dimensions
        dimensions: int = self._model().info().model(self.model).dimensions
        return dimensions

    def compute_query_embeddings(self, query: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """The vector of the query."""
        return self._embed([query])

    def compute_source_embeddings(self, inputs: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """One vector a row; none where the source is null."""
        rows = self.sanitize_input(inputs)
        found = [row for row in rows if row is not None]
        vectors = iter(self._embed([picture(row) if self.paths and isinstance(row, str) else row for row in found]))
        return [None if row is None else next(vectors) for row in rows]

    def _embed(self, items: list[Any]) -> list[Any]:
        return list(self._model().embed(items, dimensions=self.dimensions))

    def _model(self) -> Any:
        return open_model(self.url, self.api_key, self.model)
