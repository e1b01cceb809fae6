"""The real service, but with more patience for others: python -m tests.service.patient_service [its flags]."""

from __future__ import annotations

from functools import partial

import service.cache
import service.inference.fetch
from benchmarks.service_process import PATIENCE_S
from service.__main__ import app
from service.inference.fetch import FetchLimits

patience = FetchLimits(
    connect_s=PATIENCE_S,
    resolve_s=PATIENCE_S,
    total_s=10 * PATIENCE_S,  # so that what ends earlier was ended
)
# Before the command imports what builds them.
service.cache.Cache = partial(service.cache.Cache, redis_timeout_s=PATIENCE_S)  # type: ignore[misc, assignment]
fetch = service.inference.fetch
fetch.Fetcher = partial(fetch.Fetcher, limits=patience)  # type: ignore[misc, assignment]
app()
