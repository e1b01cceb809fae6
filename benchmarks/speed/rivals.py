"""Ours and the other services on the same pictures and texts, in turn, while the others are stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.inputs import as_item, embed
from benchmarks.peers import PEERS, Peer, PeerError, Reference, agrees, write_model
from benchmarks.speed.bench import Bench, label
from benchmarks.speed.driving import drive, serving
from model.bundle import Bundle

CONCURRENCIES = (32, 8)


@dataclass(frozen=True)
class Rival:
    """A started service, ours or another's, and the requests that it is asked."""

    name: str
    url: str
    pid: int
    signal: Callable[[int], None]
    pictures: Sequence[bytes]
    texts: Sequence[bytes]

    @contextmanager
    def awake(self) -> Iterator[None]:
        """It runs meanwhile, and is stopped before and after."""
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)


async def rivals(bench: Bench) -> None:
    """Our first model, its variants, and every peer that is installed. One that cannot run is told, not the end."""
    exact = Bundle.load(bench.models[0])
    with ExitStack() as started:
        ours = [_ours(bench, path, started) for path in bench.models if _same_towers(path, exact)]
        others = _others(bench, exact, started)
        every = [*ours, *others]
        for rival in every:
            rival.signal(signal.SIGSTOP)
        # What is stopped cannot end by itself.
        started.callback(lambda: [rival.signal(signal.SIGCONT) for rival in every])
        await _rounds(bench, every)


async def _rounds(bench: Bench, every: Sequence[Rival]) -> None:
    seconds = bench.size.peer_s
    with bench.steps("beside others", bench.size.rounds * len(every)) as begin:
        for turn in range(bench.size.rounds):
            for rival in every:
                begin(f"round {turn + 1}, {rival.name}")
                with rival.awake():
                    for clients in CONCURRENCIES:
                        load = await drive(rival.url, rival.pid, rival.pictures, seconds, clients)
                        bench.record.add(rival.name, f"beside/pictures/{clients}", turn, load.rate.items_s)
                    load = await drive(rival.url, rival.pid, rival.texts, seconds)
                    bench.record.add(rival.name, "beside/texts/32", turn, load.rate.items_s)


def _same_towers(path: Path, exact: Bundle) -> bool:
    return Bundle.load(path).manifest.config == exact.manifest.config


def _ours(bench: Bench, path: Path, started: ExitStack) -> Rival:
    service = started.enter_context(serving(bench.folder, path, bench.provider))
    pictures = [embed(as_item(file)) for file in bench.inputs.pictures["640x480"]]
    pid = service.process.pid
    name = label(Bundle.load(path))
    return Rival(name, service.url, pid, lambda number: os.kill(pid, number), pictures, bench.inputs.text_requests)


def _others(bench: Bench, exact: Bundle, started: ExitStack) -> list[Rival]:
    present = [peer for peer in PEERS.values() if _noted(bench, peer) is None]
    if not present:
        return []
    folder = bench.folder / "peers-model"
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # it imports torch
        other.submit(write_model, folder, exact).result()
    reference = Reference.of(exact)
    rivals: list[Rival] = []
    for peer in present:
        try:
            rivals.append(_other(bench, peer, folder, reference, started))
        except PeerError as error:
            bench.record.failed[peer.name] = str(error)
    return rivals


def _noted(bench: Bench, peer: Peer) -> str | None:
    missing = peer.missing()
    bench.record.note(peer.name, precision=peer.precision, versions=peer.versions(), missing=missing)
    return missing


def _other(bench: Bench, peer: Peer, folder: Path, reference: Reference, started: ExitStack) -> Rival:
    with ExitStack() as mine:
        server = mine.enter_context(peer.start(folder, bench.folder / f"{peer.name}.log"))
        agreement = agrees(server, reference)
        bench.record.note(peer.name, cosines=[round(agreement.pictures, 4), round(agreement.texts, 4)])
        started.push(mine.pop_all())
    pictures = [server.picture(file) for file in bench.inputs.pictures["640x480"]]
    texts = [server.text(text) for text in bench.inputs.texts]
    group = server.pid
    return Rival(peer.name, server.url, group, lambda number: os.killpg(group, number), pictures, texts)
