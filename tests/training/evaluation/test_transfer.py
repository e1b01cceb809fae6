"""Heads that begin with what a model knows of classes: the fit, where its rows come from, and both curves."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from model.bundle import Bundle, bundled
from model.embedder import Embedder
from model.tokenizers.categories import Category
from model.zeroshot import label_vectors
from tests.category_models import CATEGORIES, category_bundle
from tests.training.conftest import COLOURS, picture
from training.__main__ import app
from training.evaluation.datasets import DataError
from training.evaluation.initial_head import InitialHead, initial_head
from training.evaluation.linear_head import fit_head
from training.evaluation.linear_probe import ProbeData
from training.evaluation.transfer import both_heads, transfer
from training.publishing.publish import known_to
from training.publishing.service_client import LabelledImages

RUNNER = CliRunner()


def sample(seed: int, pictures: int, centres: np.ndarray, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of unit length around the centre of each one's class."""
    rng = np.random.default_rng(seed)
    targets = np.arange(pictures) % len(centres)
    vectors = centres[targets] + noise * rng.standard_normal((pictures, centres.shape[1]))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), targets


def centres(classes: int = 4, dimensions: int = 16) -> np.ndarray:
    rows = np.random.default_rng(9).standard_normal((classes, dimensions))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plain_objective(
    flat: np.ndarray, vectors: np.ndarray, targets: np.ndarray, initial: np.ndarray, strength: float
) -> float:
    """Cross-entropy and L2-SP, one picture and one weight at a time."""
    classes, dimensions = initial.shape
    weights, biases = flat[: classes * dimensions].reshape(classes, dimensions), flat[classes * dimensions :]
    total = 0.0
    for vector, target in zip(vectors.astype(float), targets, strict=True):
        logits = [
            sum(w * x for w, x in zip(row, vector, strict=True)) + b for row, b in zip(weights, biases, strict=True)
        ]
        total += np.log(sum(np.exp(logit) for logit in logits)) - logits[target]
    for row, start in zip(weights, initial, strict=True):
        total += sum(strength / 2 * (w - s) ** 2 for w, s in zip(row, start, strict=True))
    return total


@pytest.mark.parametrize("strength", [0.05, 2.0])
def test_a_head_is_the_minimum_of_its_objective(strength: float) -> None:
    vectors, targets = sample(0, 18, centres(3, 4))
    initial = 3 * centres(3, 4)[[1, 2, 0]]  # a wrong one
    head = fit_head(vectors, targets, initial, strength, tolerance=1e-9)
    flat = np.concatenate([head.weights.ravel(), head.biases])
    arguments = vectors, targets, initial, strength
    slope = approx_fprime(flat, plain_objective, 1e-6, *arguments)
    np.testing.assert_allclose(slope, 0, atol=2e-3)
    other = minimize(plain_objective, np.concatenate([initial.ravel(), np.zeros(3)]), args=arguments, method="BFGS")
    assert plain_objective(flat, *arguments) <= other.fun + 1e-6


def test_from_zero_it_is_the_logistic_regression_of_scikit_learn() -> None:
    vectors, targets = sample(1, 60, centres())
    head = fit_head(vectors, targets, np.zeros((4, 16)), 0.5, tolerance=1e-8)
    theirs = LogisticRegression(C=1 / 0.5, tol=1e-8, max_iter=5000).fit(vectors.astype(float), targets)
    np.testing.assert_allclose(head.weights, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(head.logits(vectors).argmax(axis=1), theirs.predict(vectors))


def test_a_strong_penalty_keeps_the_initial_head_and_a_weak_one_forgets_it() -> None:
    vectors, targets = sample(2, 40, centres())
    initial = 5 * centres()[::-1]
    strong, weak = (fit_head(vectors, targets, initial, strength, 1e-8) for strength in (1e6, 1e-3))
    np.testing.assert_allclose(strong.weights, initial, atol=1e-3)
    from_zero = fit_head(vectors, targets, np.zeros_like(initial), 1e-3, 1e-8)
    assert (weak.logits(vectors).argmax(axis=1) == targets).all()
    assert (from_zero.logits(vectors).argmax(axis=1) == targets).all()


def test_knowing_the_names_helps_most_with_few_pictures() -> None:
    true = centres(6, 24)
    train, test = sample(3, 30, true, 0.35), sample(4, 600, true, 0.35)
    data = ProbeData(*train, *test, [f"class {number}" for number in range(6)])
    nearly = true + 0.1 * np.random.default_rng(5).standard_normal(true.shape)
    results = list(transfer("made", data, InitialHead((20 * nearly).astype(np.float32), {"the text tower": 6})))
    assert [each.dataset for each in results] == [
        "made, no picture", "made, 1 shots", "made, 2 shots", "made, all",
    ]  # fmt: skip
    assert {each.task for each in results} == {"transfer"}
    gains = [each.value - each.metrics["acc1_from_zero"] for each in results[1:]]
    assert gains[0] > 0.15
    assert gains[0] > gains[-1] > -0.03
    assert results[0].value == pytest.approx(
        (test[0] @ nearly.T.astype(np.float32)).argmax(axis=1).__eq__(test[1]).mean()
    )
    assert "acc1_from_zero" not in results[0].metrics
    assert len(results[1].settings["draws"]) == 3
    assert results[-1].settings["training_pictures"] == 30


def test_a_misleading_beginning_is_given_up_where_pictures_say_so() -> None:
    true = centres(4, 16)
    train, test = sample(6, 60, true, 0.2), sample(7, 400, true, 0.2)
    data = ProbeData(*train, *test, ["a", "b", "c", "d"])
    everything = both_heads("made", data, 20 * true[::-1], np.arange(40), np.arange(40, 60), np.arange(60))
    assert everything.value > 0.85
    assert everything.metrics["acc1_from_zero"] - everything.value < 0.05


def test_a_model_that_reads_text_begins_with_its_zero_shot_classifier() -> None:
    embedder = Embedder(Bundle.load(bundled()), "cpu")
    head = initial_head(embedder, [["cat"], ["dog"]], ["a photo of a {}.", "a {}"])
    expected = embedder.bundle.logit_scale * label_vectors(
        embedder.embed_texts, ["cat", "dog"], ["a photo of a {}.", "a {}"]
    )
    np.testing.assert_allclose(head.weights, expected, rtol=1e-5)
    assert (head.sources, head.categories) == ({"the text tower": 2}, {})


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """Of a vocabulary with kinds of dogs and no dog."""
    categories = [
        Category("corgi.n.01", ("corgi",)), Category("pug.n.01", ("pug",)), Category("cat.n.01", ("cat",)),
        Category("vehicle.n.01", ("vehicle",)), *CATEGORIES[7:],
    ]  # fmt: skip
    return Embedder(category_bundle(tmp_path_factory.mktemp("animals") / "bundle", categories)[1], "cpu")


def test_a_class_has_the_row_of_its_category_or_the_mean_of_its_kinds(animals: Embedder) -> None:
    names = [["cat"], ["dog"], ["sports car"], ["qwxz"]]
    head = initial_head(animals, names, ["ignored {}"])
    rows = animals.embed_texts(["corgi", "pug", "cat", "vehicle"])
    scale = animals.bundle.logit_scale
    kinds = (rows[0] + rows[1]) / np.linalg.norm(rows[0] + rows[1])
    np.testing.assert_allclose(head.weights[:3], scale * np.stack([rows[2], kinds, rows[3]]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(head.weights[3], head.weights[:3].mean(axis=0), rtol=1e-4, atol=1e-6)
    assert head.sources == {"a category of that name": 1, "categories by WordNet": 2, "nothing": 1}
    assert head.categories == {"cat": ["cat"], "dog": ["corgi", "pug"], "sports car": ["vehicle"], "qwxz": []}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    for split, count in (("train", 4), ("test", 4)):
        for number, name in enumerate(COLOURS):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                seed = 1000 * number + n + (100 if split == "test" else 0)
                (root / split / name / f"{n}.png").write_bytes(picture(name, seed))
    return root


def evaluated(*arguments: str | Path, output: Path) -> tuple[list[dict[str, Any]], str]:
    done = RUNNER.invoke(app, ["evaluate", *map(str, arguments), "--output", str(output)])
    assert done.exit_code == 0, done.output
    records: list[dict[str, Any]] = json.loads(output.read_text("utf-8"))
    return records, done.output


def test_the_command_shows_both_curves(folder: Path, tmp_path: Path) -> None:
    records, shown = evaluated("--data", f"colours={folder}", "--task", "transfer", output=tmp_path / "r.json")
    assert [record["dataset"] for record in records] == [
        "colours, no picture", "colours, 1 shots", "colours, 2 shots", "colours, all",
    ]  # fmt: skip
    assert all("acc1_from_zero" in record["metrics"] for record in records[1:])
    assert records[0]["settings"]["initial_rows"] == {"the text tower": 4}
    assert "from zero" in shown


@pytest.fixture(scope="module")
def colour_categories(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    categories = [Category(f"{name}.n.01", (name,)) for name in ("red", "green", "sky")]
    return category_bundle(tmp_path_factory.mktemp("colour-categories") / "bundle", categories)[1]


def test_classes_that_are_no_categories_are_left_out_and_counted(
    folder: Path, colour_categories: Bundle, tmp_path: Path
) -> None:
    path = colour_categories.path
    [record], shown = evaluated(path, "--data", folder, output=tmp_path / "r.json")
    assert (record["pictures"], record["choices"]) == (8, 2)
    assert record["skipped"] == {"its class is no category of the model": 8}
    assert record["settings"]["templates"] == ["{}"]
    assert "its class is no category of the model 8" in shown
    names = tmp_path / "names.json"
    names.write_text('{"blue": ["azure", "sky"]}')
    [record], _ = evaluated(path, "--data", folder, "--class-names", names, output=tmp_path / "n.json")
    assert (record["pictures"], record["choices"]) == (12, 3)


def test_a_bundle_is_judged_by_the_classes_that_it_knows(colour_categories: Bundle) -> None:
    images = [partial(picture, name, 1) for name in COLOURS]
    labelled = LabelledImages("colours", images, [*COLOURS], [*COLOURS], ["a {}."])
    known = known_to(colour_categories, labelled)
    assert (known.labels, known.classes, known.templates) == (["red", "green"], ["red", "green"], ("{}",))
    assert known.images == images[:2]
    assert known_to(Bundle.load(bundled()), labelled) is labelled
    with pytest.raises(DataError, match="none of its classes is a category"):
        known_to(colour_categories, replace(labelled, classes=["sea"], labels=["sea"] * 4))


def test_what_it_cannot_be_asked_is_refused(folder: Path, colour_categories: Bundle, tmp_path: Path) -> None:
    path = str(colour_categories.path)
    shapes = tmp_path / "shapes"
    for name in ("circle", "square"):
        (shapes / "test" / name).mkdir(parents=True)
        (shapes / "test" / name / "1.png").write_bytes(picture("red", 1))
    for arguments, message in (
        (["--data", str(shapes)], "nothing is measured"),
        (["--data", str(folder), "--template", "a {}"], "leave prompts out"),
        (["--data", str(folder), "--select-templates"], "leave prompts out"),
        (["--data", str(folder), "--task", "paraphrase"], "no paraphrases"),
    ):
        done = RUNNER.invoke(app, ["evaluate", path, *arguments])
        assert done.exit_code == 1
        assert message in done.output
