"""A SigLIP bundle, served for real: the answers are those of transformers' model and processor."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SiglipModel, SiglipProcessor

from benchmarks.service_process import PATIENCE_S, Running, running
from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint
from tests.model.checkpoints.transformers.siglip_models import random_model, save, small_text, small_vision, token_ids
from tests.service import pictures

TEXTS = ["A photo of a cat, isn't it?", "two dogs", "?!", "a red_cup ＆ é ½ " * 4, "猫 🐈 </s> sat"]
LONG_TEXT = "an astonishingly long description of a photograph " * 20
PICTURES = ("cat", "coffee", "temple")


@dataclass(frozen=True)
class Reference:
    """What transformers gives."""

    model: SiglipModel
    processor: SiglipProcessor

    def texts(self, texts: list[str]) -> np.ndarray:
        # A control token spelled out is plain characters here, as it is there without the brackets.
        plain = [text.replace("</s>", "s") for text in texts]
        with torch.no_grad():
            return _unit(self.model.get_text_features(input_ids=token_ids(self.processor, plain)).pooler_output)

    def pictures(self) -> np.ndarray:
        opened = [Image.open(pictures.FILES[name]) for name in PICTURES]
        pixels = self.processor.image_processor(opened, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            return _unit(self.model.get_image_features(pixel_values=pixels).pooler_output)

    def logits(self, texts: list[str]) -> torch.Tensor:
        """Pictures x texts."""
        opened = [Image.open(pictures.FILES[name]) for name in PICTURES]
        pixels = self.processor.image_processor(opened, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            output = self.model(pixel_values=pixels, input_ids=token_ids(self.processor, texts))
        logits: torch.Tensor = output.logits_per_image
        return logits


def _unit(vectors: torch.Tensor) -> np.ndarray:
    unit: np.ndarray = torch.nn.functional.normalize(vectors, dim=-1).numpy()
    return unit


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Reference]]:
    folder = tmp_path_factory.mktemp("siglip")
    model = random_model(small_text(), small_vision())
    model.logit_bias.data.fill_(-1.0)  # or every probability would be 0
    processor = save(model, folder / "checkpoint")
    # Pixels as transformers has them: the bundle's own treat large JPEGs more quickly.
    import_checkpoint(folder / "checkpoint", folder / "bundle", Options(exact_pixels=True))
    with running(folder, folder / "bundle", max_batch="8", timeout_s="300") as service:
        yield service, Reference(model, processor)


@pytest.fixture
def service(served: tuple[Running, Reference]) -> Running:
    return served[0]


@pytest.fixture
def theirs(served: tuple[Running, Reference]) -> Reference:
    return served[1]


def post(service: Running, path: str, status: int = 200, **body: Any) -> Any:
    response = httpx.post(f"{service.url}{path}", json=body, timeout=PATIENCE_S)
    assert response.status_code == status, response.text
    return response.json()


def images() -> list[dict[str, str]]:
    return [{"image": pictures.as_base64(name)} for name in PICTURES]


def vectors(answer: Any) -> np.ndarray:
    return np.array([entry["embedding"] for entry in answer["data"]], np.float32)


def test_texts_and_pictures_get_the_vectors_of_transformers(service: Running, theirs: Reference) -> None:
    ours = vectors(post(service, "/embed", inputs=[*TEXTS, *images()]))
    np.testing.assert_allclose(ours[: len(TEXTS)], theirs.texts(TEXTS), atol=1e-4)
    np.testing.assert_allclose(ours[len(TEXTS) :], theirs.pictures(), atol=1e-4)


def test_a_text_alone_has_the_vector_that_it_has_among_others(service: Running) -> None:
    together = vectors(post(service, "/embed", inputs=[f"{text} 1" for text in TEXTS]))
    alone = np.concatenate([vectors(post(service, "/embed", inputs=f"{text} 1")) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_tokens_are_counted_without_padding(service: Running, theirs: Reference) -> None:
    usage = post(service, "/embed", inputs=["two dogs", "?!"])["usage"]
    expected = sum(len(theirs.processor.tokenizer(text)["input_ids"]) for text in ("two dogs", "?!"))
    assert usage == {"texts": 2, "tokens": expected, "images": 0}


def test_a_text_longer_than_the_context_is_refused_or_cut_as_asked(service: Running, theirs: Reference) -> None:
    error = post(service, "/embed", status=422, inputs=LONG_TEXT)["error"]
    tokens = len(theirs.processor.tokenizer(LONG_TEXT)["input_ids"])
    assert error["code"] == "text_too_long"
    assert f"{tokens} tokens" in error["message"]
    assert "64 tokens" in error["message"]
    answer = post(service, "/embed", inputs=LONG_TEXT, truncate=True)
    assert answer["data"][0]["truncated"]
    assert answer["usage"]["tokens"] == 64
    np.testing.assert_allclose(vectors(answer), theirs.texts([LONG_TEXT]), atol=1e-4)


def test_probabilities_are_the_sigmoids_of_transformers(service: Running, theirs: Reference) -> None:
    texts = TEXTS[:4]
    logits = theirs.logits(texts)
    answer = post(service, "/similarity", queries=images(), candidates=texts, top_k=2)
    np.testing.assert_allclose(answer["probability"], logits.sigmoid().numpy(), atol=1e-4)
    assert np.ptp(answer["probability"]) > 0.1
    best = logits.argsort(dim=1, descending=True)[:, :2].tolist()
    assert [[entry["index"] for entry in row] for row in answer["ranking"]] == best


def test_among_labels_one_is_chosen_and_with_multi_label_each_is_judged(service: Running, theirs: Reference) -> None:
    labels = ["cat", "cup of coffee", "temple"]
    logits = theirs.logits([f"a photo of a {label}." for label in labels])
    for options, expected in (({}, logits.softmax(dim=1)), ({"multi_label": True}, logits.sigmoid())):
        answer = post(service, "/classify", inputs=images(), labels=labels, **options)
        for entry, row in zip(answer["data"], expected, strict=True):
            scores = {prediction["label"]: prediction["score"] for prediction in entry["predictions"]}
            np.testing.assert_allclose([scores[label] for label in labels], row.numpy(), atol=1e-4)
            assert entry["label"] == labels[row.argmax()]


def test_clients_of_hugging_face_get_the_scores_of_their_pipeline(service: Running, theirs: Reference) -> None:
    labels = ["cat", "cup of coffee", "temple"]
    expected = theirs.logits([f"This is a photo of {label}." for label in labels])[0].sigmoid()
    parameters = {"candidate_labels": labels}
    answer = post(service, "/models/checkpoint", inputs=pictures.as_base64("cat"), parameters=parameters)
    scores = {entry["label"]: entry["score"] for entry in answer}
    np.testing.assert_allclose([scores[label] for label in labels], expected.numpy(), atol=1e-4)


def test_the_model_is_described(service: Running, theirs: Reference) -> None:
    [model] = httpx.get(f"{service.url}/models", timeout=PATIENCE_S).json()["models"]
    assert (model["context_length"], model["image_size"], model["dimensions"]) == (64, 50, 48)
    assert model["logit_bias"] == pytest.approx(-1.0)
    assert model["logit_scale"] == pytest.approx(theirs.model.logit_scale.exp().item(), rel=1e-5)


def test_texts_of_any_length_share_a_batch(service: Running) -> None:
    """Each row is as long as the context, so nothing is gained by sorting them."""

    def executions() -> float:
        return service.metric("sightword_inference_executions_total", tower="text")

    before = executions()
    answer = post(service, "/embed", inputs=["never " + "so far " * count for count in (1, 2, 4, 7, 11)])
    assert answer["usage"]["tokens"] > 5 * 16
    # The thread may take the first as it comes, and then all that came meanwhile.
    assert executions() - before <= 2


def test_other_formats_of_pictures_are_read(service: Running) -> None:
    file = io.BytesIO()
    Image.open(pictures.FILES["logo"]).save(file, "PNG")
    response = httpx.post(
        f"{service.url}/embed", content=file.getvalue(), headers={"content-type": "image/png"}, timeout=PATIENCE_S
    )
    assert response.status_code == 200
