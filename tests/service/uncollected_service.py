"""The real service without a garbage collector, and with an engine that fails on "birthday" and on white pictures.

On SIGUSR1 it collects after all, and logs of what kinds the garbage was: python -m tests.service.uncollected_service.
"""

from __future__ import annotations

import collections
import gc
import signal
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.runtime.engine import Engine
from model.tokenizers.clip import Tokenizer
from service.__main__ import app

[[_, FAILING, _]] = Tokenizer.clip().encode(["birthday"])
embed_texts, embed_images = Engine.embed_texts, Engine.embed_images


def failing_texts(self: Engine, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    if (token_ids == FAILING).any():
        raise RuntimeError("birthday")
    return embed_texts(self, token_ids)


def failing_images(self: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    if (pixels == 255).all(axis=(1, 2, 3)).any():
        raise RuntimeError("white")
    return embed_images(self, pixels)


def collect(*_: object) -> None:
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = collections.Counter(type(each).__name__ for each in gc.garbage)
    gc.garbage.clear()
    print("garbage:", *(f"{name}={count}" for name, count in kinds.items()), file=sys.stderr, flush=True)


replacement: Any = failing_texts
Engine.embed_texts = replacement  # type: ignore[method-assign]
replacement = failing_images
Engine.embed_images = replacement  # type: ignore[method-assign]
replacement = lambda: None  # noqa: E731 - the service turns it on after the start
gc.enable = replacement
gc.disable()
signal.signal(signal.SIGUSR1, collect)
app()
