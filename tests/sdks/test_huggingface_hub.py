"""Hugging Face's client."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import IMAGE, PICTURE, REFUSAL, TEXTS, TOO_LONG, same

LABELS = ["a cat", "a cup of coffee", "a rocket"]


class TestTasks:
    client = Client(
        "Hugging Face",
        "huggingface_hub, a model's URL",
        "huggingface-hub",
        """
from huggingface_hub import InferenceClient

client = InferenceClient("http://localhost:8000/models/sightword-small", token="any")
""",
        "the prompt's default is `This is a photo of {}.`, as in transformers",
    )

    def test_classification(self, here: Any) -> None:
        for image in (PICTURE, PICTURE.read_bytes()):
            found = here.client.zero_shot_image_classification(image, LABELS)
            assert found[0].label == "a cup of coffee"
            assert sum(each.score for each in found) == pytest.approx(1, abs=1e-3)

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.client.feature_extraction(TEXTS[0]), vectors(TEXTS[0]))

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=r"exactly one \{\}"):
            here.client.zero_shot_image_classification(PICTURE, LABELS, hypothesis_template="a photo")


class TestTei:
    client = Client(
        "Text Embeddings Inference",
        "huggingface_hub, `feature_extraction`",
        "huggingface-hub",
        """
from huggingface_hub import InferenceClient

client = InferenceClient("http://localhost:8000/tei", token="any")
""",
        "`http://localhost:8000/tei/embed` works as well",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.client.feature_extraction(TEXTS[0]), vectors(TEXTS[0]))

    def test_images(self, here: Any, vectors: Any) -> None:
        same(here.client.feature_extraction(f"data:image/jpeg;base64,{IMAGE['image']}"), vectors(IMAGE))

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.client.feature_extraction(TOO_LONG)
