"""The real service; its text tower waits while a file exists: python -m tests.service.held_service FILE [its flags]."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.runtime.engine import Engine
from service.__main__ import app

file = Path(sys.argv.pop(1))
embed_texts = Engine.embed_texts


def held(self: Engine, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    while file.exists():
        time.sleep(0.01)
    return embed_texts(self, token_ids)


replacement: Any = held
Engine.embed_texts = replacement  # type: ignore[method-assign]
app()
