"""The sample shards that the repository carries: everyday things by several artists, and a test by one more."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from training.corpus.emoji import load_concepts, load_set
from training.corpus.photographs import load_photographs
from training.corpus.recipe import render_all
from training.corpus.shards import Drawing, Item, write_shards

TRAIN_ARTISTS = ("fluent-3d", "fluent-flat", "fxemoji")
TEST_ARTIST = "noto"
CONCEPTS = """
    cat; dog; horse; cow; pig; tiger; elephant; rabbit; penguin; koala; panda; frog; octopus; turtle; snake; fish;
    dolphin; lady beetle; honeybee; spider; pizza; hamburger; banana; red apple; pear; lemon; strawberry; cherries;
    grapes; watermelon; tomato; eggplant; mushroom; doughnut; birthday cake; hot beverage; beer mug; cactus; palm tree;
    rose; sunflower; four leaf clover; airplane; bus; automobile; rocket; sailboat; helicopter; tractor; umbrella;
    guitar; key; scissors; light bulb; open book; camera; telephone; alarm clock; bell; balloon; crown; candle;
    soccer ball; basketball; house; castle; fire; red heart; star; sun; rainbow; skull
    """
QUALITY = 65  # of drawings with gradients, which without loss take four times as much


def sample_concepts() -> list[str]:
    """The names that the test asks for."""
    return [" ".join(name.split()) for name in CONCEPTS.split(";")]


def build_sample(output: Path, cache: Path) -> None:
    """Writes `train-sample-000000.tar` and `test-sample-000000.tar`."""
    names = set(sample_concepts())
    concepts = load_concepts(cache)

    def drawn_by(artists: Iterable[str]) -> list[Drawing]:
        return [d for artist in artists for concept, d in load_set(artist, concepts, cache) if concept.name in names]

    train = list(compressed(render_all("train-sample", drawn_by(TRAIN_ARTISTS))))
    write_shards(output, "train-sample", shuffled([*train, *load_photographs()]))
    write_shards(output, "test-sample", render_all("test-sample", drawn_by([TEST_ARTIST])))


def compressed(items: Iterable[Item]) -> Iterator[Item]:
    """The same pictures: with loss where that halves the file, its transparency excepted."""
    for key, image, annotation in items:
        buffer = BytesIO()
        Image.open(BytesIO(image)).save(buffer, "WEBP", quality=QUALITY, method=6)
        lossy = buffer.getvalue()
        yield key, lossy if 2 * len(lossy) < len(image) else image, annotation


def shuffled(items: Iterable[Item]) -> list[Item]:
    """In an order that mixes the artists and is the same on every run."""
    return sorted(items, key=lambda item: item[0][::-1])
