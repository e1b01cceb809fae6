"""/clip/*, as inference-sdk 1.8 and Chroma's RoboflowEmbeddingFunction ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import PATIENCE_S, running
from tests.service import pictures

CAT = {"type": "base64", "value": pictures.as_base64("cat")}
ROCKET = {"type": "base64", "value": pictures.as_base64("rocket")}
KEY = "a key of sixteen or more"


def native(client: httpx.Client, *inputs: Any) -> Any:
    data = client.post("/embed", json={"inputs": list(inputs)}).json()["data"]
    return np.array([entry["embedding"] for entry in data])


def test_images_and_texts(client: httpx.Client) -> None:
    one = client.post("/clip/embed_image", json={"image": CAT, "api_key": None}).json()
    two = client.post("/clip/embed_image?api_key=x", json={"image": [CAT, ROCKET], "api_key": "x"}).json()
    expected = native(client, {"image": CAT["value"]}, {"image": ROCKET["value"]})
    np.testing.assert_allclose(two["embeddings"], expected, atol=1e-6)
    assert one["embeddings"] == two["embeddings"][:1]
    assert one.keys() == {"inference_id", "frame_id", "time", "embeddings"}
    texts = client.post("/clip/embed_text", json={"text": ["a cat", "a dog"]}).json()["embeddings"]
    np.testing.assert_allclose(texts, native(client, "a cat", "a dog"), atol=1e-6)
    assert client.post("/clip/embed_text", json={"text": "a cat"}).json()["embeddings"] == texts[:1]


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        (["a cat", "a rocket"], "text"),
        ("a cat", "text"),
        ({"first": "a cat", "second": "a rocket"}, "text"),
        ([CAT, ROCKET], "image"),
        (CAT, "image"),
        ({"first": CAT, "second": ROCKET}, "image"),
    ],
)
def test_compare(prompt: Any, kind: str, client: httpx.Client) -> None:
    request = {"subject": ROCKET, "prompt": prompt, "prompt_type": kind}
    answer = client.post("/clip/compare", json=request).json()
    asked = list(prompt.values()) if isinstance(prompt, dict) and "type" not in prompt else prompt
    asked = asked if isinstance(asked, list) else [asked]
    items = [{"image": each["value"]} if kind == "image" else each for each in asked]
    subject, *others = native(client, {"image": ROCKET["value"]}, *items)
    cosines = [float(other @ subject) for other in others]
    found = answer["similarity"]
    if isinstance(prompt, dict) and "type" not in prompt:
        assert list(found) == ["first", "second"]
        found = list(found.values())
    assert found == pytest.approx(cosines, abs=1e-5)


def test_a_subject_may_be_a_text(client: httpx.Client) -> None:
    request = {"subject": "a cat", "subject_type": "text", "prompt": ["a cat"]}
    assert client.post("/clip/compare", json=request).json()["similarity"] == pytest.approx([1.0], abs=1e-5)


@pytest.mark.parametrize(
    ("path", "request_", "status", "param"),
    [
        ("embed_image", {"image": {"type": "numpy", "value": "gASV"}}, 422, "image.type"),
        ("embed_image", {"image": [{"type": "base64", "value": "bad!"}]}, 422, "image.0.value"),
        ("embed_image", {"image": {"type": "url", "value": "https://example.com/a.jpg"}}, 422, "image.value"),
        ("embed_image", {"image": []}, 422, "image"),
        ("embed_text", {"text": "a", "clip_version_id": "ViT-B-16"}, 404, "model"),
        ("embed_text", {"text": ["a", 1]}, 422, "text.1"),
        ("compare", {"subject": CAT, "prompt": {}}, 422, "prompt"),
        ("compare", {"subject": CAT, "prompt": ["a", ""]}, 422, "prompt.1"),
        ("compare", {"subject": CAT, "prompt": "a", "subject_type": "video"}, 422, "subject_type"),
    ],
)
def test_what_is_wrong_is_named(
    path: str, request_: dict[str, Any], status: int, param: str, client: httpx.Client
) -> None:
    answer = client.post(f"/clip/{path}", json=request_)
    assert (answer.status_code, answer.json()["param"]) == (status, param)
    assert answer.json()["message"].startswith(f"{param}: ")


def test_its_key_may_be_in_the_query_and_is_never_logged(bundle_path: Path, tmp_path: Path) -> None:
    with running(tmp_path, bundle_path, api_keys=KEY) as service:
        answers = [
            httpx.post(f"{service.url}{path}", params={"api_key": key}, json=body, timeout=PATIENCE_S).status_code
            for path, key, body in (
                ("/clip/embed_text", KEY, {"text": "a"}),
                ("/clip/embed_text", "another key of sixteen", {"text": "a"}),
                ("/embed", KEY, {"inputs": "a"}),
            )
        ]
        assert answers == [200, 401, 401]
        log = service.log()
    assert "/clip/embed_text" in log
    assert not any(spelling in log for spelling in (KEY, KEY.replace(" ", "+"), KEY.replace(" ", "%20")))
