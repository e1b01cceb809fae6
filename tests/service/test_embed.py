"""POST /embed: every input form, every encoding, order."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.bundle import Bundle
from model.images.preprocessing import load_image
from model.runtime.engine import Engine
from tests.service import pictures

LONG_TEXT = "an astonishingly long description of a photograph " * 20


def embed(client: httpx.Client, inputs: Any, **options: Any) -> dict[str, Any]:
    response = client.post("/embed", json={"inputs": inputs, **options})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def vectors(client: httpx.Client, inputs: Any, **options: Any) -> NDArray[np.float32]:
    return np.array([entry["embedding"] for entry in embed(client, inputs, **options)["data"]], np.float32)


@pytest.mark.parametrize("name", sorted(pictures.FILES))
def test_a_picture_gets_the_vector_that_the_model_gives(
    client: httpx.Client, bundle: Bundle, engine: Engine, name: str
) -> None:
    expected = engine.embed_images(load_image(pictures.read(name), bundle.preprocessing)[None])
    np.testing.assert_allclose(vectors(client, {"image": pictures.as_base64(name)}), expected, atol=1e-5)


def test_a_text_gets_the_vector_that_the_model_gives(client: httpx.Client, bundle: Bundle, engine: Engine) -> None:
    texts = ["a photo of a cat", "Ein Foto — von einer Katze", "<|endoftext|> is plain text here", "猫 🐈"]
    tokenizer = bundle.tokenizer()
    for text in texts:
        expected = engine.embed_texts(tokenizer.pad(tokenizer.encode([text])))
        np.testing.assert_allclose(vectors(client, text), expected, atol=1e-5)


def test_mixed_items_keep_their_order(client: httpx.Client) -> None:
    items: list[Any] = []
    for index, name in enumerate(pictures.FILES):
        items += [f"text {index}", {"image": pictures.as_base64(name)}, {"text": f"{'long ' * index * 3} text"}]
    together = embed(client, items)
    assert [entry["index"] for entry in together["data"]] == list(range(len(items)))
    alone = np.concatenate([vectors(client, item) for item in items])
    np.testing.assert_allclose(np.array([entry["embedding"] for entry in together["data"]]), alone, atol=1e-4)
    assert together["usage"]["images"] == len(pictures.FILES)
    assert together["usage"]["texts"] == 2 * len(pictures.FILES)


def test_usage_counts_tokens_with_start_and_end(client: httpx.Client, bundle: Bundle) -> None:
    texts = ["cat", "a photo of a dog"]
    assert embed(client, texts)["usage"]["tokens"] == sum(map(len, bundle.tokenizer().encode(texts)))


@pytest.mark.parametrize(
    "form",
    [
        lambda data: {"image": data},
        lambda data: {"image": f"data:image/jpeg;base64,{data}"},
        lambda data: {"image": f"DATA:image/wrong-name;charset=x;base64,{data}"},
    ],
)
def test_base64_and_data_uris_are_the_same_picture(client: httpx.Client, form: Any) -> None:
    expected = client.post("/embed", content=pictures.read("rocket"), headers={"content-type": "image/jpeg"}).json()
    assert embed(client, form(pictures.as_base64("rocket")))["data"] == expected["data"]


def test_an_image_body_is_told_by_its_content(client: httpx.Client) -> None:
    for media_type in ("image/jpeg", "image/png", "image/x-anything", "IMAGE/PNG; q=1"):
        answer = client.post("/embed", content=pictures.read("coffee"), headers={"content-type": media_type})
        assert answer.status_code == 200
        assert answer.json()["usage"] == {"texts": 0, "tokens": 0, "images": 1}


def test_an_image_body_takes_options_from_the_query(client: httpx.Client) -> None:
    answer = client.post(
        "/embed?dimensions=16&encoding_format=base64&normalize=false",
        content=pictures.read("coffee"),
        headers={"content-type": "image/png"},
    )
    assert len(base64.b64decode(answer.json()["data"][0]["embedding"])) == 16 * 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_gives_a_vector(client: httpx.Client, mode: str) -> None:
    grey = Image.open(pictures.FILES["moon"]).convert("L").resize((120, 80))
    picture = grey.convert("F").convert("I").convert("I;16") if mode == "I;16" else grey.convert(mode)
    file = io.BytesIO()
    picture.save(file, "TIFF")
    [vector] = vectors(client, {"image": base64.b64encode(file.getvalue()).decode()})
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


class TestEncodings:
    items = ("a cat", "two dogs in the snow", {"image": pictures.as_base64("cat")})

    @pytest.fixture
    def floats(self, client: httpx.Client) -> NDArray[np.float32]:
        return vectors(client, self.items)

    def encoded(self, client: httpx.Client, encoding_format: str) -> list[Any]:
        return [entry["embedding"] for entry in embed(client, self.items, encoding_format=encoding_format)["data"]]

    def test_float_is_of_unit_length(self, floats: NDArray[np.float32]) -> None:
        np.testing.assert_allclose(np.linalg.norm(floats, axis=1), 1, atol=1e-5)

    def test_base64_is_little_endian_float32(self, client: httpx.Client, floats: NDArray[np.float32]) -> None:
        rows = [np.frombuffer(base64.b64decode(text), "<f4") for text in self.encoded(client, "base64")]
        np.testing.assert_allclose(rows, floats, atol=1e-6)

    def test_int8_keeps_the_direction(self, client: httpx.Client, floats: NDArray[np.float32]) -> None:
        rows = np.array(self.encoded(client, "int8"), np.int8).astype(np.float32)
        assert np.abs(rows).max(axis=1).tolist() == [127, 127, 127]
        cosine = (rows * floats).sum(axis=1) / np.linalg.norm(rows, axis=1)
        assert cosine.min() > 0.999

    def test_binary_packs_signs(self, client: httpx.Client, floats: NDArray[np.float32]) -> None:
        unsigned = np.array(self.encoded(client, "ubinary"), np.uint8)
        np.testing.assert_array_equal(np.unpackbits(unsigned, axis=1), floats > 0)
        signed = np.array(self.encoded(client, "binary"))
        np.testing.assert_array_equal(signed + 128, unsigned)

    @pytest.mark.parametrize("accept", ["application/x-npy", "text/html, application/x-npy;q=0.9"])
    def test_npy(self, client: httpx.Client, floats: NDArray[np.float32], accept: str) -> None:
        answer = client.post("/embed", json={"inputs": self.items}, headers={"accept": accept})
        assert answer.headers["content-type"] == "application/x-npy"
        matrix = np.load(io.BytesIO(answer.content), allow_pickle=False)
        assert matrix.dtype == np.dtype("<f4")
        np.testing.assert_allclose(matrix, floats, atol=1e-5)

    def test_raw_floats(self, client: httpx.Client, floats: NDArray[np.float32]) -> None:
        headers = {"accept": "application/octet-stream"}
        answer = client.post("/embed", json={"inputs": self.items, "dimensions": 8}, headers=headers)
        rows = np.frombuffer(answer.content, "<f4").reshape(3, 8)
        expected = floats[:, :8] / np.linalg.norm(floats[:, :8], axis=1, keepdims=True)
        np.testing.assert_allclose(rows, expected, atol=1e-5)

    @pytest.mark.parametrize("option", [{"encoding_format": "base64"}, {"on_error": "item"}])
    def test_a_matrix_has_no_room_for_some_options(self, client: httpx.Client, option: dict[str, str]) -> None:
        headers = {"accept": "application/x-npy"}
        answer = client.post("/embed", json={"inputs": "a", **option}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, next(iter(option)))

    def test_dimensions_are_cut_then_normalised(self, client: httpx.Client, floats: NDArray[np.float32]) -> None:
        cut = floats[:, :10]
        np.testing.assert_allclose(vectors(client, self.items, dimensions=10, normalize=False), cut, atol=1e-5)
        expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors(client, self.items, dimensions=10), expected, atol=1e-5)


def test_truncation_is_asked_for_and_told(client: httpx.Client, bundle: Bundle, engine: Engine) -> None:
    answer = embed(client, [LONG_TEXT, "short"], truncate=True)
    assert [entry["truncated"] for entry in answer["data"]] == [True, False]
    assert answer["usage"]["tokens"] == bundle.context_length + 3
    tokenizer = bundle.tokenizer()
    ids = tokenizer.truncate(tokenizer.encode([LONG_TEXT])[0])
    np.testing.assert_allclose(answer["data"][0]["embedding"], engine.embed_texts(tokenizer.pad([ids]))[0], atol=1e-5)


def test_a_bad_item_may_fail_in_its_place(client: httpx.Client) -> None:
    bad: list[Any] = [
        {"image": "bm90IGFuIGltYWdl"},
        {"image": pictures.as_base64("rocket")[:4000]},
        {"image": "https://example.com/cat.jpg"},
        LONG_TEXT,
        {"image": 5},
        "",
        None,
        {"text": "a", "image": "b"},
    ]
    items: list[Any] = ["first"]
    for item in bad:
        items += [item, {"image": pictures.as_base64("cat")}]
    answer = embed(client, items, on_error="item")
    assert [entry["index"] for entry in answer["data"]] == list(range(len(items)))
    codes = [entry["error"]["code"] for entry in answer["data"][1::2]]
    assert codes == [
        "invalid_image", "invalid_image", "url_not_allowed", "text_too_long", *["invalid_request"] * 4
    ]  # fmt: skip
    assert [entry["error"]["param"] for entry in answer["data"][1::2]][:3] == [f"inputs.{i}.image" for i in (1, 3, 5)]
    good = np.array([entry["embedding"] for entry in answer["data"][2::2]])
    np.testing.assert_allclose(good, np.repeat(vectors(client, items[2]), len(bad), axis=0), atol=1e-4)


def test_all_items_may_be_bad(client: httpx.Client) -> None:
    answer = embed(client, ["", {"image": "x"}], on_error="item")
    assert [entry["error"]["code"] for entry in answer["data"]] == ["invalid_request", "invalid_image"]
    assert answer["usage"] == {"texts": 0, "tokens": 0, "images": 0}
