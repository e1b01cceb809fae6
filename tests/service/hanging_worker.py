"""The real service, whose workers hang on the way to their event loops while FILE exists.

python -m tests.service.hanging_worker FILE [flags of the service]; the parent has little patience then, and all of it
else: a worker that starts takes long where the machine is busy.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import service.workers.parent
from service.__main__ import app
from service.workers.handover import VARIABLE

file = Path(sys.argv.pop(1))


class Patience(float):
    def __truediv__(self, look_s: float) -> float:
        return (3.0 if file.exists() else float(self)) / look_s


service.workers.parent.FIRST_BEAT_S = Patience(service.workers.parent.FIRST_BEAT_S)
while VARIABLE in os.environ and file.exists():  # a worker
    time.sleep(0.05)
app()
