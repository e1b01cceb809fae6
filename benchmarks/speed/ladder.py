"""The ladder: from the bare model to HTTP with JSON, one rung at a time, on the same pictures and texts.

A bare `session.run` · C decoding and preprocessing on one core · D the pipeline in this process · E HTTP, the file as
the body · F HTTP, base64 in JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service_process import Running
from benchmarks.speed.bare import Rate, RunConfig, Tower, median_ms, rate, towers
from benchmarks.speed.bench import Bench, decoder, label
from benchmarks.speed.load import (
    ALL_CORES,
    GENERATOR_CORE,
    drive,
    drive_in_process,
    open_pipeline,
    percentile_ms,
    serving,
)
from model.bundle import Bundle
from model.runtime.processor import usable_cores
from service.inference.pipeline import Pipeline
from service.schema.items import ImageItem, TextItem

Step = tuple[str, Callable[[int], Awaitable[None]]]


@dataclass
class Rungs:
    """All that is climbed for one model."""

    bench: Bench
    bundle: Bundle
    name: str
    bare: dict[str, Tower]
    best: dict[str, RunConfig]
    pipeline: Pipeline
    service: Running
    model_rate: dict[str, float]  # items a second of the bare towers, to tell how long to measure

    def steps(self) -> list[Step]:
        """In the order of a round."""
        steps = [*self._pictures("640x480"), *self._texts(), *self._lone()]
        if any(size != "640x480" for size in self.bench.inputs.image_sets):
            steps += self._mixed()
        return steps

    def _pictures(self, files: str) -> list[Step]:
        pictures = self.bench.inputs.image_sets[files]
        seconds = self.bench.size.seconds(self.model_rate["image"])
        items = [ImageItem(file, "inputs") for file in pictures]
        raw, json = self.bench.inputs.raw_requests(pictures), self.bench.inputs.json_requests(pictures)

        async def bare(turn: int) -> None:
            self._note(f"{files}/A", turn, self.bare["image"].rate(self.best["image"], seconds))

        async def in_process(turn: int) -> None:
            self._note(f"{files}/D", turn, await drive_in_process(self.pipeline, items, seconds))

        return [
            (f"A {files}", bare),
            (f"C {files}", self._decoding(files, pictures)),
            (f"D {files}", in_process),
            (f"E {files}", self._http(f"{files}/E", raw, seconds)),
            (f"F {files}", self._http(f"{files}/F", json, seconds)),
        ]

    def _mixed(self) -> list[Step]:
        files = self.bench.inputs.image_sets["mixed"]
        seconds = self.bench.size.seconds(self.model_rate["image"])
        raw = self.bench.inputs.raw_requests(files)
        return [("C mixed", self._decoding("mixed", files)), ("E mixed", self._http("mixed/E", raw, seconds))]

    def _texts(self) -> list[Step]:
        seconds = self.bench.size.seconds(self.model_rate["text"])
        items = [TextItem(text, "inputs") for text in self.bench.inputs.texts]

        async def bare(turn: int) -> None:
            self._note("texts/A", turn, self.bare["text"].rate(self.best["text"], seconds))

        async def in_process(turn: int) -> None:
            self._note("texts/D", turn, await drive_in_process(self.pipeline, items, seconds))

        http = self._http("texts/F", self.bench.inputs.text_requests, seconds)
        return [("A texts", bare), ("D texts", in_process), ("F texts", http)]

    def _lone(self) -> list[Step]:
        """One request at a time, against what it consists of."""
        pictures = self.bench.inputs.image_sets["640x480"]
        seconds = max(0.3, self.bench.size.least_s / 2)
        raw = self.bench.inputs.raw_requests(pictures)

        async def parts(turn: int) -> None:
            self._add("lone/decode_ms", turn, median_ms(decoder(self.bundle, pictures), seconds / 2))
            self._add("lone/run_ms", turn, self.bare["image"].lone_ms(seconds))

        async def request(turn: int) -> None:
            load = await drive(self.service.url, self.service.process.pid, raw, seconds, clients=1)
            self._add("lone/http_ms", turn, percentile_ms(load.answers, 0.5))

        return [("a lone request", request), ("its parts", parts)]

    def _decoding(self, files: str, pictures: Sequence[bytes]) -> Callable[[int], Awaitable[None]]:
        decode = decoder(self.bundle, pictures)

        async def step(turn: int) -> None:
            self._note(f"{files}/C", turn, rate(decode, 1, 1, max(0.2, self.bench.size.least_s / 2)))

        return step

    def _http(self, name: str, requests: Sequence[bytes], seconds: float) -> Callable[[int], Awaitable[None]]:
        async def step(turn: int) -> None:
            load = await drive(self.service.url, self.service.process.pid, requests, seconds)
            self._note(name, turn, load.rate)
            self._add(f"{name}/generator_ms", turn, load.generator_ms)

        return step

    def _note(self, name: str, turn: int, measured: Rate) -> None:
        self._add(name, turn, measured.items_s)
        self._add(f"{name}/core_ms", turn, measured.core_ms)

    def _add(self, name: str, turn: int, value: float) -> None:
        self.bench.record.add(self.name, name, turn, value)


async def ladder(bench: Bench) -> None:
    """Every model in turn; within a model, all rungs in every round."""
    for path in bench.models:
        await _measure_model(bench, path)


async def _measure_model(bench: Bench, path: Path) -> None:
    bundle = Bundle.load(path)
    name = label(bundle)
    bare = towers(bundle, bench.provider, bench.inputs.image_sets["640x480"])
    with serving(bench.folder, path, bench.provider) as service:
        async with open_pipeline(path, bench.provider) as pipeline:
            with bench.steps(name, len(bare)) as begin:
                best: dict[str, RunConfig] = {}
                for tower, sessions in bare.items():
                    begin(f"best batch of the {tower} tower")
                    best[tower] = sessions.best(bench.size.search_s, max(1, bench.size.rounds // 2))
            rates = {tower: bare[tower].rate(best[tower], bench.size.least_s / 4).items_s for tower in bare}
            _note_settings(bench, name, pipeline, best)
            rungs = Rungs(bench, bundle, name, bare, best, pipeline, service, rates)
            await _rounds(bench, name, rungs.steps())


def _note_settings(bench: Bench, name: str, pipeline: Pipeline, best: dict[str, RunConfig]) -> None:
    cores = usable_cores()
    bench.record.note(
        name,
        provider=pipeline.engine.provider,
        cores=cores,
        batches=pipeline.max_batch,
        **{f"bare_{tower}": f"batches of {setting.batch}, {setting.session}" for tower, setting in best.items()},
    )
    shared = f"it shares all {cores} cores with the service"
    own = f"it has core {GENERATOR_CORE} of {len(ALL_CORES)}, the service and the bare model the others"
    bench.record.note("", generator=shared if GENERATOR_CORE is None else own)


async def _rounds(bench: Bench, name: str, steps: Sequence[Step]) -> None:
    with bench.steps(name, bench.size.rounds * len(steps)) as begin:
        for turn in range(bench.size.rounds):
            for what, step in steps:
                begin(f"round {turn + 1}, {what}")
                await step(turn)
