"""The real service, whose parent soon kills a worker that hangs: python -m tests.service.impatient_parent [flags]."""

from __future__ import annotations

import service.workers.parent
from service.__main__ import app

service.workers.parent.STUCK_S = 5.0
app()
