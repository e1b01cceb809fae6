"""The real service, but with more patience for others: python -m tests.service.patient_service [its flags]."""

from __future__ import annotations

import service.cache.calls
import service.inference.fetch
from benchmarks.service_process import PATIENCE_S
from service.__main__ import app

service.cache.calls.TIMEOUT_S = PATIENCE_S
service.inference.fetch.CONNECT_S = service.inference.fetch.RESOLVE_S = PATIENCE_S
service.inference.fetch.FETCH_S = 10 * PATIENCE_S  # so that what ends earlier was ended
app()
