"""The real service, whose warm-up measures something else each time: a number of items that chance names."""

from __future__ import annotations

import random

from service.inference import warmup

warmup._measure = lambda *_: warmup.TowerProfile(random.SystemRandom().randrange(2, 10_000), 1, 0.01)

from service.__main__ import app  # noqa: E402

app()
