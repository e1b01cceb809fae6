"""A model in this process: the same answers as the service's, and what is said where it cannot be."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightword
from benchmarks.service_process import running
from model.bundle import bundled
from model.embedder import Embedder
from sightword.errors import ImageTooLargeError, InferenceError, MissingDependencyError, ModelError
from sightword.local.embedder import Local
from sightword.local.requirements import needs_runtime
from tests.service import pictures
from tests.service.hostile import png

PHOTOS = [pictures.read(name) for name in ("cat", "coffee", "rocket", "temple", "flower", "moon")]


@pytest.fixture(scope="module")
def fresh(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sightword.Client]:
    """A service that has seen nothing: what its cache gives was computed in the batch of another request."""
    with (
        running(tmp_path_factory.mktemp("fresh"), bundle_path, timeout_s="300", provider="cpu") as service,
        sightword.Client(service.url) as client,
    ):
        yield client


@pytest.mark.parametrize("item", [*PHOTOS, "a", "a photo of a cat.", "word " * 70], ids=lambda item: str(item[:8]))
def test_one_item_alone_has_the_vector_of_the_service_to_the_bit(
    fresh: sightword.Client, local: Local, item: Any
) -> None:
    assert (fresh.embed(item) == local.embed(item)).all()


@pytest.mark.parametrize("count", [2, 5, 8])
def test_texts_of_one_batch_have_the_vectors_of_the_service_to_the_bit(
    fresh: sightword.Client, local: Local, count: int
) -> None:
    texts = [f"{count} and {index} of them" for index in range(count)]
    assert (fresh.embed(texts) == local.embed(texts)).all()


def test_in_other_batches_vectors_differ_in_their_last_bits_only(fresh: sightword.Client, local: Local) -> None:
    items = [*(f"{index} other things, " * (1 + index % 7) for index in range(60)), *PHOTOS]
    np.testing.assert_allclose(fresh.embed(items), local.embed(items), atol=1e-6)


def test_scores_are_those_of_the_service_to_the_bit(fresh: sightword.Client, local: Local) -> None:
    """Of one item and one label, each embedded alone."""
    [theirs], [ours] = (each.classify(PHOTOS[0], ["heron"]) for each in (fresh, local))
    assert ours == theirs
    [theirs], [ours] = (each.classify(PHOTOS[0], ["heron"], multi_label=True) for each in (fresh, local))
    assert ours.score == pytest.approx(theirs.score, abs=1e-6)


def test_vectors_are_those_of_the_embedder(local: Local, bundle_path: Path) -> None:
    embedder = Embedder.load(bundle_path, "cpu")
    np.testing.assert_allclose(local.embed(PHOTOS), embedder.embed_images(PHOTOS), atol=1e-6)
    np.testing.assert_allclose(local.embed(["a", "b c"]), embedder.embed_texts(["a", "b c"]), atol=1e-6)


def test_without_a_name_it_is_the_model_that_ships() -> None:
    with sightword.load() as local:
        assert local.info().models[0].id == bundled().name
        assert repr(local).startswith(f"<{bundled().name} on ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere", "bundle.json"),
        (str(Path(__file__).parent), "bundle.json"),
        ("ViT-B-32", "python -m model pull ViT-B-32"),
        ("no model of this name", "is no model that is known by name"),
    ],
)
def test_what_cannot_be_loaded(name: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTWORD_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=says):
        sightword.load(name)


def test_a_provider_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="unknown provider 'gpu'"):
        sightword.load(provider="gpu")


def test_a_picture_of_too_many_pixels(local: Local) -> None:
    with pytest.raises(ImageTooLargeError) as refused:
        local.embed(png(9_000, 9_000))
    assert refused.value.param == "inputs.0.image"


def test_a_model_that_fails_says_so(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(ids: object) -> object:
        raise RuntimeError("Non-zero status code")

    monkeypatch.setattr(local.engine, "embed_texts", fail)
    with pytest.raises(InferenceError, match="Non-zero status code"):
        local.embed("a cat")


def test_many_threads_may_call_it(local: Local) -> None:
    counter = itertools.count()

    def call(_: int) -> bool:
        labels = ["cat", f"nothing {next(counter) % 12}"]
        return local.classify(PHOTOS[0], labels)[0].label == "cat"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(40)))


def test_it_brings_no_torch_and_the_client_brings_no_model(tmp_path: Path) -> None:
    program = """
import sys, sightword
sightword.Client("http://localhost:9")
assert not {"model", "service", "training", "onnxruntime", "PIL", "pydantic", "tqdm"} & sys.modules.keys()
sightword.load().embed("a cat")
assert not {"service", "training", "torch", "fastapi"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_what_is_missing_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("onnxruntime", "tokenizers.models"):
        with (
            pytest.raises(MissingDependencyError, match=r"is not installed.*sightword\[cpu\].*-e \"\.\[cpu\]\""),
            needs_runtime(),
        ):
            raise ModuleNotFoundError(name=missing)
    with pytest.raises(ModuleNotFoundError, match="ours"), needs_runtime():
        raise ModuleNotFoundError("ours", name="model.nothing")
    monkeypatch.delitem(sys.modules, "model")
    with pytest.raises(ImportError, match="only its client is installed"), needs_runtime():
        raise ModuleNotFoundError(name="model")
    with pytest.raises(ModuleNotFoundError, match="ours"), needs_runtime():
        raise ModuleNotFoundError("ours", name="sightword.nothing")


def test_a_file_model_in_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("")
    ended = subprocess.run(
        [sys.executable, "-c", "import sightword; sightword.load()"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert f"{tmp_path / 'model.py'} stands in the way of Sightword's package `model`" in ended.stderr
