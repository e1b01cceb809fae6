"""Throughput of our service and its peers on the same pictures and texts, one after another, the others stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.inputs import embed, image_item
from benchmarks.peers import PEERS, Peer, PeerError, Reference, check_agreement, write_model
from benchmarks.speed.bench import Bench, label
from benchmarks.speed.load import drive, serving
from model.bundle import Bundle

CONCURRENCIES = (32, 8)


@dataclass(frozen=True)
class MeasuredService:
    """A started service, ours or another's, and the requests that it is asked."""

    name: str
    url: str
    pid: int
    signal: Callable[[int], None]
    image_requests: Sequence[bytes]
    text_requests: Sequence[bytes]

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """SIGCONT now, SIGSTOP on the way out."""
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)


async def peers(bench: Bench) -> None:
    """Measure our first model, its variants, and every installed peer; the record notes those that cannot run."""
    exact = Bundle.load(bench.models[0])
    with ExitStack() as started:
        ours = [_ours(bench, path, started) for path in bench.models if _same_towers(path, exact)]
        others = _others(bench, exact, started)
        every = [*ours, *others]
        for service in every:
            service.signal(signal.SIGSTOP)
        # What is stopped cannot end by itself.
        started.callback(lambda: [service.signal(signal.SIGCONT) for service in every])
        await _rounds(bench, every)


async def _rounds(bench: Bench, every: Sequence[MeasuredService]) -> None:
    seconds = bench.size.peer_s
    with bench.steps("beside others", bench.size.rounds * len(every)) as begin:
        for turn in range(bench.size.rounds):
            for service in every:
                begin(f"round {turn + 1}, {service.name}")
                with service.resumed():
                    for clients in CONCURRENCIES:
                        load = await drive(service.url, service.pid, service.image_requests, seconds, clients)
                        bench.record.add(service.name, f"beside/pictures/{clients}", turn, load.rate.items_s)
                    load = await drive(service.url, service.pid, service.text_requests, seconds)
                    bench.record.add(service.name, "beside/texts/32", turn, load.rate.items_s)


def _same_towers(path: Path, exact: Bundle) -> bool:
    return Bundle.load(path).manifest.config == exact.manifest.config


def _ours(bench: Bench, path: Path, started: ExitStack) -> MeasuredService:
    service = started.enter_context(serving(bench.folder, path, bench.provider))
    pictures = [embed(image_item(file)) for file in bench.inputs.image_sets["640x480"]]
    pid = service.process.pid
    name = label(Bundle.load(path))
    return MeasuredService(
        name, service.url, pid, lambda number: os.kill(pid, number), pictures, bench.inputs.text_requests
    )


def _others(bench: Bench, exact: Bundle, started: ExitStack) -> list[MeasuredService]:
    present = [peer for peer in PEERS.values() if _note_versions(bench, peer) is None]
    if not present:
        return []
    folder = bench.folder / "peers-model"
    with ProcessPoolExecutor(1, get_context("spawn")) as other:  # it imports torch
        other.submit(write_model, folder, exact).result()
    reference = Reference.of(exact)
    peers: list[MeasuredService] = []
    for peer in present:
        try:
            peers.append(_other(bench, peer, folder, reference, started))
        except PeerError as error:
            bench.record.failed[peer.name] = str(error)
    return peers


def _note_versions(bench: Bench, peer: Peer) -> str | None:
    missing = peer.missing()
    bench.record.note(peer.name, precision=peer.precision, versions=peer.versions(), missing=missing)
    return missing


def _other(bench: Bench, peer: Peer, folder: Path, reference: Reference, started: ExitStack) -> MeasuredService:
    with ExitStack() as mine:
        server = mine.enter_context(peer.start(folder, bench.folder / f"{peer.name}.log"))
        agreement = check_agreement(server, reference)
        bench.record.note(peer.name, cosines=[round(agreement.images, 4), round(agreement.texts, 4)])
        started.push(mine.pop_all())
    pictures = [server.image(file) for file in bench.inputs.image_sets["640x480"]]
    texts = [server.text(text) for text in bench.inputs.texts]
    group = server.pid
    return MeasuredService(peer.name, server.url, group, lambda number: os.killpg(group, number), pictures, texts)
