"""Roboflow's client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sdks.clients import Client
from tests.sdks.inputs import IMAGE, PICTURE, REFUSAL, TEXTS, TOO_LONG, same


class TestRoboflow:
    client = Client(
        "Roboflow",
        "inference-sdk",
        "inference-sdk",
        """
from inference_sdk import InferenceHTTPClient

client = InferenceHTTPClient(api_url="http://localhost:8000", api_key="any")
""",
        "the key goes in the body or the query, and is never logged; pictures in numpy's pickles are refused",
    )

    def test_texts(self, here: Any, vectors: Any) -> None:
        same(here.client.get_clip_text_embeddings(TEXTS)["embeddings"], vectors(*TEXTS))

    def test_images(self, here: Any, vectors: Any) -> None:
        found = np.array(here.client.get_clip_image_embeddings(str(PICTURE))["embeddings"])
        assert (found @ vectors(IMAGE).T).item() > 0.98  # the client encodes it anew

    def test_several_images(self, here: Any) -> None:
        found = here.client.get_clip_image_embeddings([str(PICTURE)] * 2)
        assert sum(len(each["embeddings"]) for each in found) == 2

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(Exception, match=REFUSAL):
            here.client.get_clip_text_embeddings(TOO_LONG)

    def test_comparison(self, here: Any) -> None:
        answer = here.client.clip_compare(str(PICTURE), ["a cat", "a cup of coffee"])
        assert answer["similarity"][1] > answer["similarity"][0]
