"""The way of pictures from file to batcher: in turns, without those that nobody waits for, large ones one at a time."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.decoding.tiffs import one_tile
from model.bundle import Bundle
from model.runtime.engine import Engine
from service.errors import ApiError
from service.inference.batcher import Batcher
from service.inference.decoding import LARGE_PIXELS, DecodeJob, Decoder
from service.inference.fair_queue import FutureEntry
from service.inference.records import EncodedImage
from service.inference.shared_resources import SharedResources
from service.metrics import Metrics
from service.request_context import Timing
from service.settings import Settings
from tests.service import pictures
from tests.service.gated_tower import drive

PHOTOGRAPH = pictures.read("rocket")


class Recorder:
    """The image tower of the real engine; notes how many pictures each batch held."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.sizes = engine, list[int]()

    def __call__(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.sizes.append(len(pixels))
        return self.engine.embed_images(np.stack(pixels))


@asynccontextmanager
async def decoding(bundle: Bundle) -> AsyncIterator[Decoder]:
    shared = SharedResources(Settings(cache_bytes=0), Metrics())
    try:
        yield Decoder(bundle.preprocessing, shared)
    finally:
        await shared.aclose()


def expected(files: Sequence[bytes], timing: Timing) -> list[FutureEntry]:
    loop = asyncio.get_running_loop()
    return [FutureEntry(EncodedImage(file, str(number)), timing, loop) for number, file in enumerate(files)]


def start(decoder: Decoder, batcher: Batcher, files: Sequence[bytes]) -> list[asyncio.Future[NDArray[np.float32]]]:
    timing = Timing()
    entries = expected(files, timing)
    DecodeJob(decoder, batcher, timing, entries).start()
    return [entry.future for entry in entries]


def large_picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (3_100, 3_000), grey).save(file, "PNG")  # over LARGE_PIXELS
    return file.getvalue()


def test_what_takes_the_memory_of_a_large_picture_is_large(bundle: Bundle) -> None:
    """Few pixels come out of each; a tile, and the coefficients of several scans, are what takes the memory."""
    scans = io.BytesIO()
    Image.new("RGB", (5_100, 5_000)).save(scans, "JPEG", progressive=True, subsampling=0)

    async def scenario() -> None:
        async with decoding(bundle) as decoder:
            assert decoder.decode(EncodedImage(scans.getvalue(), ""), Timing(), LARGE_PIXELS) is None
            assert decoder.decode(EncodedImage(one_tile(13_000), ""), Timing(), LARGE_PIXELS) is None
            assert decoder.decode(EncodedImage(scans.getvalue(), ""), Timing(), None) is not None
            with pytest.raises(ApiError, match="would take 2,018 MiB, more than 794") as caught:
                decoder.decode(EncodedImage(one_tile(46_000), ""), Timing(), LARGE_PIXELS)
            assert (caught.value.code, caught.value.status) == ("image_too_large", 413)

    drive(scenario())


def test_a_lone_picture_does_not_wait_for_all_of_a_large_request(
    bundle: Bundle, engine: Engine, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        async with decoding(bundle) as decoder:
            batcher = make_batcher(Recorder(engine), max_batch=1)
            finished: list[str] = []
            many = start(decoder, batcher, [PHOTOGRAPH] * 60)
            one = start(decoder, batcher, [PHOTOGRAPH])
            for name, wanted in (("large", many), ("lone", one)):
                for future in wanted:
                    future.add_done_callback(lambda _, name=name: finished.append(name))
            await asyncio.gather(*many, *one)
            assert finished.index("lone") < 30

    drive(scenario())


def test_pictures_that_nobody_waits_for_cost_no_decoding(
    bundle: Bundle, engine: Engine, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        async with decoding(bundle) as decoder:
            recorder = Recorder(engine)
            wanted = start(decoder, make_batcher(recorder), [PHOTOGRAPH] * 200)
            for future in wanted[:-1]:
                future.cancel()
            await wanted[-1]
            assert sum(recorder.sizes) < 100
            with Image.open(io.BytesIO(PHOTOGRAPH)) as photograph:
                pixels = photograph.width * photograph.height
            assert decoder.shared.metrics.decoded_pixels.collect()[0].samples[0].value < 100 * pixels

    drive(scenario())


def test_a_large_picture_does_not_wait_for_all_of_a_request_of_large_ones(
    bundle: Bundle, engine: Engine, make_batcher: Callable[..., Batcher]
) -> None:
    async def scenario() -> None:
        async with decoding(bundle) as decoder:
            batcher, file = make_batcher(Recorder(engine)), large_picture(20)
            many = start(decoder, batcher, [file] * (8 * decoder.shared.pool.size))
            await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.gather(*start(decoder, batcher, [file]))
            assert not all(future.done() for future in many)
            await asyncio.gather(*many)

    drive(scenario())


def test_large_and_broken_pictures_among_others_keep_their_places(
    bundle: Bundle, engine: Engine, make_batcher: Callable[..., Batcher]
) -> None:
    files = [PHOTOGRAPH, large_picture(20), b"no picture", large_picture(200), PHOTOGRAPH[:2_000], PHOTOGRAPH] * 2

    async def outcomes(decoder: Decoder, files: Sequence[bytes], batcher: Batcher) -> list[Any]:
        return await asyncio.gather(*start(decoder, batcher, files), return_exceptions=True)

    async def scenario() -> None:
        async with decoding(bundle) as decoder:
            batcher = make_batcher(Recorder(engine))
            together = await outcomes(decoder, files, batcher)
            alone = [outcome for file in files for outcome in await outcomes(decoder, [file], batcher)]
        for one, other in zip(together, alone, strict=True):
            if isinstance(other, ApiError):
                assert (one.code, one.message) == (other.code, other.message)
            else:
                np.testing.assert_allclose(one, other, atol=1e-5)
        assert [isinstance(one, ApiError) for one in together] == [False, False, True, False, True, False] * 2

    drive(scenario())


@pytest.mark.parametrize("ends", ["before", "during"])
def test_the_end_of_the_pool_leaves_nobody_waiting(
    bundle: Bundle, engine: Engine, make_batcher: Callable[..., Batcher], ends: str
) -> None:
    async def scenario() -> None:
        async with decoding(bundle) as decoder:
            if ends == "before":
                await decoder.shared.aclose()
            wanted = start(decoder, make_batcher(Recorder(engine)), [PHOTOGRAPH] * 100)
            await decoder.shared.aclose()
            outcomes = await asyncio.gather(*wanted, return_exceptions=True)
            refused = [outcome for outcome in outcomes if isinstance(outcome, ApiError)]
            assert refused
            assert {error.code for error in refused} == {"unavailable"}

    drive(scenario())
