"""/vectorize and /meta, as Weaviate's module multi2vec-clip asks (modules/multi2vec-clip/clients, commit adcffc5)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from model.bundle import Bundle
from tests.service import pictures

CAT = pictures.as_base64("cat")


def native(client: httpx.Client, *inputs: Any) -> list[Any]:
    data = client.post("/embed", json={"inputs": list(inputs)}).json()["data"]
    return [entry["embedding"] for entry in data]


def test_texts_and_images_come_back_apart_and_in_order(client: httpx.Client) -> None:
    answer = client.post("/vectorize", json={"texts": ["a dog", "a cat"], "images": [CAT]}).json()
    assert answer == {
        "textVectors": native(client, "a dog", "a cat"),
        "imageVectors": native(client, {"image": CAT}),
    }


@pytest.mark.parametrize("images", [{}, {"images": []}, {"images": None}])
def test_either_list_may_be_left_out(images: dict[str, Any], client: httpx.Client) -> None:
    answer = client.post("/vectorize", json={"texts": ["a"], **images}).json()
    assert (len(answer["textVectors"]), answer["imageVectors"]) == (1, [])
    assert client.post("/vectorize", json={}).json() == {"textVectors": [], "imageVectors": []}


def test_errors_are_a_string_which_go_can_parse(client: httpx.Client) -> None:
    for request, param in (
        ({"texts": [1]}, "texts.0"),
        ({"texts": "a"}, "texts"),
        ({"images": [CAT, "bad!"]}, "images.1"),
        ({"texts": ["cat " * 200]}, "texts.0"),
    ):
        answer = client.post("/vectorize", json=request)
        assert answer.status_code == 422
        assert answer.json()["error"].startswith(f"{param}: ")


def test_meta_names_the_model(client: httpx.Client, bundle: Bundle) -> None:
    assert client.get("/meta").json()["model"]["digest"] == bundle.digest
