"""Clients that ask without a pause, and what became of each of their requests."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.bundle import Bundle
from model.runtime.engine import Engine

TEXTS = [f"a photo of {number} things" for number in range(40)]


@dataclass
class Load:
    """Counts by what came back. `answered` and `failed` together are all that was sent."""

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)


@contextmanager
def load(ask: Callable[[int], Any], threads: int) -> Iterator[Load]:
    """`ask(number of a text)` in each of so many threads, again and again, until the end of the `with`."""
    done, found, over, numbers = Load(), threading.Lock(), threading.Event(), itertools.count()

    def work() -> None:
        while not over.is_set():
            text = next(numbers) % len(TEXTS)
            try:
                answer = ask(text)
            except Exception as error:
                with found:
                    done.failed.append(repr(error))
            else:
                with found:
                    done.answered += 1
                    done.answers.append((text, answer))

    with ThreadPoolExecutor(threads) as pool:
        working = [pool.submit(work) for _ in range(threads)]
        try:
            yield done
        finally:
            over.set()
        for each in working:
            each.result()


def vectors_of(bundle: Bundle, texts: Sequence[str] = TEXTS) -> NDArray[Any]:
    """What the answers must hold, computed here: [texts, dimensions]."""
    tokenizer = bundle.tokenizer()
    return np.vstack([Engine(bundle, "cpu").embed_texts(tokenizer.pad(tokenizer.encode(texts)))])
