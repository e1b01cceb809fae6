"""Templates, class vectors and probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.zeroshot import DEFAULT_TEMPLATES, TemplateError, class_vectors, fill, sigmoid, softmax, template_sets

LOGITS = st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20)


def test_the_label_takes_the_place() -> None:
    assert [fill(template, "cat") for template in DEFAULT_TEMPLATES] == ["a photo of a cat."]
    assert fill("{}", "") == ""


@pytest.mark.parametrize("template", ["{0} {}", "{ {} }", "{x!r:>10} {}", "%s {}", "{{}}", "\\{}"])
def test_nothing_else_in_a_template_is_interpreted(template: str) -> None:
    assert fill(template, "a {} {label} %s") == template.replace("{}", "a {} {label} %s")


@pytest.mark.parametrize("template", ["", "a photo", "{} and {}", "{0}", "{ }", "{}{}{}"])
def test_templates_without_exactly_one_place(template: str) -> None:
    with pytest.raises(TemplateError, match="exactly once"):
        fill(template, "cat")


def test_the_template_sets_that_ship() -> None:
    sets = template_sets()
    assert {name: len(templates) for name, templates in sets.items()} == {
        "plain": 1,
        "photo": 1,
        "imagenet-7": 7,
        "imagenet-80": 80,
    }
    assert (sets["plain"], sets["photo"]) == (("{}",), DEFAULT_TEMPLATES)
    assert sets["imagenet-7"][0] == "itap of a {}."
    assert (sets["imagenet-80"][0], sets["imagenet-80"][-1]) == ("a bad photo of a {}.", "a tattoo of the {}.")
    for templates in sets.values():
        assert len(set(templates)) == len(templates)
        assert all("cat" in fill(template, "cat") for template in templates)


def test_class_vectors_are_normalised_means() -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 7, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    classes = class_vectors(vectors)
    assert (classes.shape, classes.dtype) == ((5, 16), np.float32)
    for row, templates in zip(classes, vectors, strict=True):
        total = np.sum(templates.astype(np.float64), axis=0)
        np.testing.assert_allclose(row, total / math.sqrt(total @ total), atol=1e-6)
    np.testing.assert_allclose(class_vectors(vectors[:, :1]), vectors[:, 0], atol=1e-6)


def test_templates_that_cancel_out_give_no_direction() -> None:
    assert class_vectors([[[1.0, 0.0], [-1.0, 0.0]]]).tolist() == [[0.0, 0.0]]


@given(LOGITS)
def test_softmax_is_a_distribution_in_the_order_of_the_logits(logits: list[float]) -> None:
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float32
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert (np.diff(probabilities[np.argsort(logits)]) >= 0).all()


def test_softmax_works_on_the_last_axis_and_ignores_a_common_offset() -> None:
    logits = np.array([[0, math.log(3)], [1000, 1000]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(softmax(logits + 500), softmax(logits), rtol=1e-4)


@given(LOGITS)
def test_sigmoid_lies_between_zero_and_one_and_is_symmetric(logits: list[float]) -> None:
    probabilities = sigmoid(logits)
    assert probabilities.dtype == np.float32
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(probabilities + sigmoid(np.negative(logits)), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("logit", "expected"), [(0, 0.5), (math.log(3), 0.75), (-50, math.exp(-50)), (1e4, 1), (-1e4, 0)]
)
def test_sigmoid_values(logit: Any, expected: float) -> None:
    assert float(sigmoid(logit)) == pytest.approx(expected, rel=1e-5)
