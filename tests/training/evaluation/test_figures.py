"""Metrics, intervals, probes and selections, against scikit-learn, published values and CLIP_benchmark's own rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from clip_benchmark.metrics.zeroshot_classification import average_precision_per_class
from clip_benchmark.metrics.zeroshot_retrieval import recall_at_k
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, top_k_accuracy_score
from torch.nn import functional as F

from training.evaluation.intervals import bootstrap, wilson
from training.evaluation.linear_probe import ProbeData, few_shot, fit, fit_and_score, linear_probe, search_strength
from training.evaluation.metrics import eleven_point_precision, ranks, retrieval_ranks
from training.evaluation.zeroshot import classify, classify_many, retrieve, select_templates

Array = np.ndarray


def unit(count: int, seed: int, dimensions: int = 16) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_classification_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    targets = rng.choice(7, 300, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    scores = rng.normal(size=(300, 7)).astype(np.float32) + 1.5 * np.eye(7, dtype=np.float32)[targets]
    result = classify("x", scores, targets, list("abcdefg"))
    assert result.metrics["acc1"] == pytest.approx(top_k_accuracy_score(targets, scores, k=1))
    assert result.metrics["acc5"] == pytest.approx(top_k_accuracy_score(targets, scores, k=5))
    assert result.metrics["mean_per_class_recall"] == pytest.approx(
        balanced_accuracy_score(targets, scores.argmax(axis=1))
    )
    assert result.interval == wilson(result.metrics["acc1"], 300)
    assert set(result.per_class) == set("abcdefg")


def test_two_classes_have_a_roc_curve() -> None:
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 200)
    scores = rng.normal(size=(200, 2)).astype(np.float32)
    scores[:, 1] += targets
    result = classify("x", scores, targets, ["no", "yes"], headline="roc_auc")
    assert result.value == pytest.approx(roc_auc_score(targets, scores[:, 1] - scores[:, 0]))
    assert result.interval[0] < result.value < result.interval[1]


def test_a_model_that_knows_nothing_gets_nothing() -> None:
    assert classify("x", np.zeros((10, 6), np.float32), np.zeros(10, np.int64), list("abcdef")).value == 0
    same = np.ones((4, 3), np.float32)
    found = retrieve("x", same, [["a"], ["b"], ["c"], ["d"]], lambda texts: same[: len(texts)], np.inner)
    assert found.value == 0


def test_classes_without_pictures_do_not_count() -> None:
    scores = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    result = classify("x", scores, np.array([0, 1, 2, 2]), ["a", "b", "c", "d"][:3])
    assert result.metrics["mean_per_class_recall"] == pytest.approx((1 + 1 + 0.5) / 3)


def test_eleven_point_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    truth = np.array([True, False, True, False, False])
    # Recall 0.5 is reached with precision 1, recall 1 with 2/3: six points of 1, five of 2/3.
    assert eleven_point_precision(scores, truth) == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert np.isnan(eleven_point_precision(scores, np.zeros(5, bool)))


def test_several_classes_a_picture() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((120, 4)) < 0.3
    scores = rng.normal(size=truth.shape).astype(np.float32) + truth
    result = classify_many("voc", scores, truth, list("abcd"))
    expected = np.mean([average_precision_score(truth[:, k], scores[:, k]) for k in range(4)])
    assert result.metrics["mean_average_precision"] == pytest.approx(expected)
    assert result.headline == "mean_average_precision_11_point"
    assert result.interval[0] <= result.value <= result.interval[1]


def test_retrieval_is_clip_benchmarks() -> None:
    captions = [[f"{picture}-{n}" for n in range(1 + picture % 3)] for picture in range(40)]
    flat = [text for own in captions for text in own]
    owner = torch.tensor([picture for picture, own in enumerate(captions) for _ in own])
    pictures, words = unit(40, 3), unit(len(flat), 4)
    words += 0.8 * pictures[owner.numpy()]
    scores = torch.from_numpy(words @ pictures.T)
    positive = F.one_hot(owner, 40).bool()
    result = retrieve("x", pictures, captions, lambda texts: words[[flat.index(text) for text in texts]], np.inner)
    for k in (1, 5, 10):
        by_text = (recall_at_k(scores, positive, k) > 0).float().mean().item()
        by_picture = (recall_at_k(scores.T, positive.T, k) > 0).float().mean().item()
        assert result.metrics[f"image_retrieval_recall@{k}"] == pytest.approx(by_text)
        assert result.metrics[f"text_retrieval_recall@{k}"] == pytest.approx(by_picture)
        assert 0 < by_text < 1 or k > 1


def test_mean_average_precision_is_clip_benchmarks() -> None:
    numbers = np.random.default_rng(3)
    truth = numbers.random((200, 8)) < 0.3
    scores = (numbers.normal(size=(200, 8)) + truth).astype(np.float32)
    theirs = average_precision_per_class(torch.from_numpy(scores), torch.from_numpy(truth))
    ours = classify_many("x", scores, truth, list("abcdefgh"))
    assert ours.metrics["mean_average_precision"] == pytest.approx(theirs.mean().item(), abs=1e-6)


def test_a_caption_of_two_pictures_is_found_with_either() -> None:
    words = np.eye(3, dtype=np.float32)
    found = retrieve("t", words[[0, 1, 1, 2]], [["x"], ["y"], ["y"], ["z"]], lambda texts: words, np.inner)
    assert (found.value, found.choices, found.metrics["image_retrieval_recall@1"]) == (1.0, 3, 1.0)


def test_ranks_do_not_depend_on_how_many_are_scored_at_a_time() -> None:
    queries, keys, own = unit(50, 5), unit(80, 6), [[i, i + 5] for i in range(50)]

    def scores(rows: slice) -> Any:
        return queries[rows] @ keys.T

    whole = retrieval_ranks(scores, own)
    np.testing.assert_array_equal(retrieval_ranks(scores, own, chunk_rows=7), whole)
    assert ranks(np.array([[3.0, 2.0, 1.0]]), np.array([1])).tolist() == [1]


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263 and 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    hits = np.arange(400) % 4 == 0
    low, high = bootstrap(lambda at: float(hits[at].mean()), 400)
    assert (low, high) == pytest.approx(wilson(0.25, 400), abs=0.01)
    assert bootstrap(lambda at: float("nan"), 5) == pytest.approx((np.nan, np.nan), nan_ok=True)


def clusters(count: int, seed: int, spread: float = 1.2) -> tuple[Array, Array]:
    centres = unit(5, 99)
    targets = np.random.default_rng(seed).integers(0, 5, count)
    vectors = centres[targets] + spread * unit(count, seed)
    return vectors.astype(np.float32), targets


def test_a_linear_probe_is_scikit_learns_regression_at_the_chosen_penalty() -> None:
    train, train_targets = clusters(400, 7)
    test, test_targets = clusters(200, 8)
    result = linear_probe("x", ProbeData(train, train_targets, test, test_targets, list("abcde")))
    theirs = LogisticRegression(C=result.settings["C"], max_iter=1000).fit(train, train_targets)
    assert result.value == pytest.approx(theirs.score(test, test_targets))
    assert result.value > 0.6


def test_the_search_ends_on_the_grid_of_the_paper_near_the_best() -> None:
    tried: list[float] = []

    def score(strength: float) -> float:
        tried.append(strength)
        return -abs(np.log10(strength) - 2.3)

    found = search_strength(score)
    assert np.log10(found) == pytest.approx(2.25)  # eighths of a decade
    assert len(tried) == len(set(tried)) <= 7 + 2 * 4
    assert np.log10(search_strength(lambda strength: strength)) == pytest.approx(6)


def test_few_shots_climb_and_leave_out_what_the_data_cannot_give() -> None:
    train, train_targets = clusters(90, 9)
    test, test_targets = clusters(200, 10)
    curve = few_shot("x", ProbeData(train, train_targets, test, test_targets, list("abcde")))
    least = np.bincount(train_targets).min()
    assert [result.settings["shots"] for result in curve] == [shots for shots in (1, 2, 4, 8, 16) if 2 * shots <= least]
    assert len(curve) >= 3
    assert curve[-1].value > curve[0].value
    assert all(result.interval[0] <= result.value <= result.interval[1] for result in curve)


def test_a_class_that_was_never_shown_is_never_chosen() -> None:
    train, train_targets = clusters(100, 11)
    shown = train_targets < 4
    test, test_targets = clusters(100, 12)
    taught = ProbeData(train[shown], train_targets[shown], test, test_targets, list("abcde"))
    result = fit_and_score("x", taught, np.arange(shown.sum()), 1.0, "acc1", "linear_probe")
    assert result.per_class["e"] == 0
    assert fit(train[shown], train_targets[shown], 1.0).classes_.tolist() == [0, 1, 2, 3]


def test_templates_are_kept_while_they_help() -> None:
    targets = np.random.default_rng(13).integers(0, 5, 300)
    good = unit(5, 14)
    noise = [unit(5, seed) for seed in (15, 16)]
    pictures = good[targets] + 0.9 * unit(300, 17)
    vectors = np.stack([noise[0], good, noise[1]])
    chosen, accuracies = select_templates(pictures, targets, vectors, ["bad", "good", "worse"], np.inner)
    assert chosen[0] == "good"
    assert accuracies == sorted(set(accuracies))
    assert select_templates(pictures, targets, vectors[:1], ["only"], np.inner)[0] == ["only"]
