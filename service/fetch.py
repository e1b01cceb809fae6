"""Pictures by URL."""

from __future__ import annotations

from service.admission import Admission, Hold
from service.errors import ApiError
from service.settings import Settings


class Fetcher:
    """Refuses every URL so far."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self.settings, self.admission = settings, admission

    async def fetch(self, url: str, hold: Hold | None) -> bytes:
        """The file at `url`. ApiErrors name no field."""
        raise ApiError("url_not_allowed", "This server fetches no URLs; send the file itself.")

    async def aclose(self) -> None:
        """End the connections."""
