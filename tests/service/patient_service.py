"""The real service, but with more patience for others: python -m tests.service.patient_service [its flags]."""

from __future__ import annotations

from functools import partial

import service.cache
import service.inference.fetch
from benchmarks.service_process import PATIENCE_S
from service.__main__ import app

service.cache.Cache = partial(service.cache.Cache, redis_timeout_s=PATIENCE_S)  # type: ignore[misc, assignment]
service.inference.fetch.CONNECT_S = service.inference.fetch.RESOLVE_S = PATIENCE_S
service.inference.fetch.FETCH_S = 10 * PATIENCE_S  # so that what ends earlier was ended
app()
