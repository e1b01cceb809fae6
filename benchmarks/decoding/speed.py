"""`python -m benchmarks.decoding.speed`: what each library takes for a picture, and what a model makes of it."""

from __future__ import annotations

import argparse
import io
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.decoding.libraries import EXACT, SERVED, Decode, Pixels, libraries
from benchmarks.machine import machine
from benchmarks.speed.photographs import CAMERA, LARGE, MEDIUM, SMALL, photographs
from model.bundle import Bundle, bundled
from model.runtime.engine import Engine

TICK_S = 2e-4  # how often another thread asks for the interpreter's lock
TURNED = 6


def encoded(files: Sequence[bytes], format_name: str, **options: Any) -> list[bytes]:
    """The same pictures in another format."""

    def one(file: bytes) -> bytes:
        stream = io.BytesIO()
        Image.open(io.BytesIO(file)).save(stream, format_name, **options)
        return stream.getvalue()

    return [one(file) for file in files]


def picture_sets(count: int, folder: Path | None) -> dict[str, list[bytes]]:
    """Files of each kind, `count` of each."""
    made = photographs({SMALL: count, MEDIUM: -(-count // 2), LARGE: count // 2, CAMERA: -(-count // 2)})
    small, exif = made[SMALL], Image.Exif()
    exif[0x0112] = TURNED
    sets = {
        "640x480": small,
        "progressive": encoded(small, "JPEG", quality=88, progressive=True),
        "4:4:4": encoded(small, "JPEG", quality=88, subsampling=0),
        "turned": encoded(small, "JPEG", quality=88, exif=exif),
        "1 to 2 MP": made[MEDIUM] + made[LARGE],
        "12 MP": made[CAMERA],
        "PNG": encoded(small, "PNG"),
        "WebP": encoded(small, "WEBP", quality=80),
    }
    own = sorted(folder.rglob("*.jp*g"))[:count] if folder else []
    return {**({"own": [file.read_bytes() for file in own]} if own else {}), **sets}


class LockWaits:
    """Seconds, at most, that another thread waits for the interpreter's lock while something runs."""

    def __enter__(self) -> LockWaits:
        self.waits: list[float] = []
        self._running = True
        self._thread = threading.Thread(target=self._tick)
        self._thread.start()
        return self

    def _tick(self) -> None:
        while self._running:
            started = time.perf_counter()
            time.sleep(TICK_S)
            self.waits.append(time.perf_counter() - started - TICK_S)

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._thread.join()


def core_ms(decode: Decode, files: Sequence[bytes], config: Any) -> float:
    """CPU time of the whole process for a picture, in ms: libraries may have threads of their own."""
    started = time.process_time()
    for file in files:
        decode(file, config)
    return 1e3 * (time.process_time() - started) / len(files)


def lock_wait_ms(decode: Decode, files: Sequence[bytes], config: Any) -> float:
    """The median wait for the lock of another thread, in ms: about half of a call that never lets go of it."""
    with LockWaits() as lock:
        ends = time.perf_counter() + 0.3
        while time.perf_counter() < ends:
            core_ms(decode, files, config)
    return 1e3 * statistics.median(lock.waits)


def main() -> None:
    """Print a table for each size of the square; about a minute."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoding.speed", description=__doc__)
    parser.add_argument("--size", type=int, action="append", help="side of the square (default: the model's and 224)")
    parser.add_argument("--count", type=int, default=6, help="pictures of each kind (default: 6)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken (default: 5)")
    parser.add_argument("--folder", type=Path, help="JPEGs of your own, as one more kind")
    options = parser.parse_args()
    bundle = Bundle.load(bundled())
    engine, sets = Engine(bundle, "cpu"), picture_sets(options.count, options.folder)
    print(", ".join(f"{key} {value}" for key, value in machine().items() if key in ("processor", "cores", "pillow")))
    for size in options.size or (bundle.image_size, 224):
        _table(size, sets, options.rounds, bundle, engine)


def _table(size: int, sets: dict[str, list[bytes]], rounds: int, bundle: Bundle, engine: Engine) -> None:
    config = bundle.preprocessing.model_copy(update={"size": size})
    ways = {name: decode for name, decode in libraries() if decode is not None}
    print(f"\nTo {size} pixels; core-ms a picture, (smallest cosine to all pixels); not installed: ", end="")
    print(", ".join(name for name, decode in libraries() if decode is None) or "none", end="\n\n")
    print(f"| | {' | '.join(sets)} | another thread's wait for the lock, ms |")
    print(f"| --- |{' --: |' * (len(sets) + 1)}")
    exact = {kind: _vectors(ways[EXACT], files, config, bundle.image_size, engine) for kind, files in sets.items()}
    times = {kind: _times(ways, files, config, rounds) for kind, files in sets.items()}
    for name, decode in ways.items():
        cells = []
        for kind, files in sets.items():
            if (core := times[kind].get(name)) is None:
                cells.append("–")
                continue
            vectors = _vectors(decode, files, config, bundle.image_size, engine)
            cells.append(f"{core:.2f} ({np.sum(vectors * exact[kind], axis=1).min():.5f})")
        wait = lock_wait_ms(decode, sets["1 to 2 MP"], config)
        print(f"| {name} | {' | '.join(cells)} | {wait:.2f} |", flush=True)


def _times(ways: dict[str, Decode], files: Sequence[bytes], config: Any, rounds: int) -> dict[str, float]:
    """The median of each way that reads these files; all take turns."""
    able = {}
    for name, decode in ways.items():
        try:
            core_ms(decode, files, config)
            able[name] = decode
        except (OSError, RuntimeError, ValueError, TypeError):
            assert name not in (EXACT, SERVED)
    seen: dict[str, list[float]] = {name: [] for name in able}
    for _ in range(rounds):
        for name, decode in able.items():
            seen[name].append(core_ms(decode, files, config))
    return {name: statistics.median(those) for name, those in seen.items()}


def _vectors(decode: Decode, files: Sequence[bytes], config: Any, size: int, engine: Engine) -> Any:
    """Of the bundled model; a larger square is reduced to its size, in the same way for all."""
    return engine.embed_images(np.stack([_reduced(decode(file, config), size) for file in files]))


def _reduced(pixels: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
