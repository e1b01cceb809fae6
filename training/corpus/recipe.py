"""Builds the drawings of the corpus: one job a shard family, each of which can be run and repeated alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property, partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training.corpus.concepts import Concept, held_out_names, is_held_out
from training.corpus.duplicates import index
from training.corpus.emoji import SETS, load_concepts, load_set
from training.corpus.evaluation_sets import load_fashion, load_openmoji, load_tuxpaint
from training.corpus.openclipart import load_openclipart
from training.corpus.render import render
from training.corpus.shards import Drawing, Item, read_shard, write_shards
from training.data.fingerprints import fingerprint

WORKERS = 2
CHUNK = 16


class Materials:
    """The drawings that several jobs need, loaded when first asked for."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    @cached_property
    def concepts(self) -> dict[str, Concept]:
        """All pictorial concepts."""
        return load_concepts(self.cache)

    def emoji(self, name: str, held_out: bool) -> list[Drawing]:
        """One artist's drawings on one side of the hold-out."""
        pairs = load_set(name, self.concepts, self.cache)
        return [drawing for concept, drawing in pairs if is_held_out(concept.name) == held_out]

    def held_out(self) -> list[Drawing]:
        """The held-out concepts of all artists."""
        return [drawing for name in SETS for drawing in self.emoji(name, held_out=True)]

    def openclipart(self) -> list[Drawing]:
        """Clip art that names no held-out concept."""
        return load_openclipart(self.cache, held_out_names(self.concepts.values()))

    def openmoji(self) -> list[Drawing]:
        """The test artist, told which names were trained on."""
        trained = {d.annotation.label for name in SETS for d in self.emoji(name, held_out=False) if d.annotation.label}
        trained |= {d.annotation.label for d in self.openclipart() if d.annotation.label}
        return load_openmoji(self.cache, self.concepts, trained)


def jobs(materials: Materials) -> dict[str, Callable[[], list[Drawing]]]:
    """Shard family -> the drawings that go into it."""
    emoji: dict[str, Callable[[], list[Drawing]]] = {
        f"train-emoji-{name}": partial(materials.emoji, name, held_out=False) for name in SETS
    }
    return emoji | {
        "train-openclipart": materials.openclipart,
        "heldout-emoji": materials.held_out,
        "test-openmoji": materials.openmoji,
        "test-tuxpaint": partial(load_tuxpaint, materials.cache),
        "test-fashion-mnist": partial(load_fashion, materials.cache),
    }


def build(output: Path, cache: Path, only: Sequence[str] | None = None) -> None:
    """Downloads, renders and writes the shards that `output` lacks; `only` names shard families to write again."""
    table = jobs(Materials(cache))
    unknown = set(only or ()) - set(table)
    if unknown:
        raise ValueError(f"No such part of the corpus: {', '.join(sorted(unknown))}. Choose from {', '.join(table)}.")
    console = Console()
    for stem in only or table:
        existing = sorted(output.glob(f"{stem}-[0-9]*.tar"))
        if existing and only is None:
            counts = [(path, sum(1 for _ in read_shard(path))) for path in existing]
        else:
            items = render_all(stem, table[stem]())
            counts = write_shards(output, stem, exclude_trained(items, output) if stem == "test-tuxpaint" else items)
        for path, count in counts:
            console.print(f"{path}: {count} pictures")


def exclude_trained(items: Iterable[Item], output: Path) -> Iterator[Item]:
    """Leaves out what is in training: Tux Paint took some of its stamps from the Open Clip Art Library."""
    shards = sorted(output.glob("train-openclipart-[0-9]*.tar"))
    if not shards:
        raise ValueError("The stamps are compared with the clip art: build train-openclipart first.")
    trained = index(shards)
    yield from (item for item in items if trained.find(fingerprint(item[1])) is None)


def render_all(title: str, drawings: Sequence[Drawing]) -> Iterator[Item]:
    """Renders in a pool of processes, in order, and leaves out what is empty or a byte-for-byte repetition."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    seen: set[bytes] = set()
    # Spawned, not forked: a parent with torch's threads running must not be forked.
    pool = ProcessPoolExecutor(WORKERS, get_context("spawn"))
    with pool, Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=len(drawings))
        for drawing, image in zip(drawings, pool.map(render, drawings, chunksize=CHUNK), strict=True):
            bar.advance(task)
            digest = sha256(image or b"").digest()
            if image is None or (drawing.crop and digest in seen):
                continue
            seen.add(digest)
            yield drawing.key, image, drawing.annotation
