"""The clients that people already have, against the real service: what they ask for, and that nothing leaves here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import llama_index.core
import numpy as np
import openai
import pytest
from huggingface_hub.errors import HfHubHTTPError
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.openai import OpenAIEmbedding

from benchmarks.service_process import Running
from model.bundle import Bundle
from tests.service import pictures

TEXTS = ["a photo of a cat", "a rocket at night", "Ein Foto — von einer Katze"]
CAT = pictures.as_base64("cat")
KEY = "not-checked"
_TOKENIZER_FILES = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
_CL100K = _TOKENIZER_FILES / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # tiktoken's name for cl100k_base


@pytest.fixture(autouse=True)
def nothing_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names cannot be resolved, and the attempt fails the test even if the client takes it silently."""
    asked: list[object] = []
    resolve = socket.getaddrinfo

    def only_loopback(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("127.0.0.1", b"127.0.0.1"):
            asked.append(host)
            raise socket.gaierror(f"{host} is not this machine")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    yield
    assert not asked


def expected(client: httpx.Client, inputs: Any, **options: Any) -> np.ndarray[Any, Any]:
    data = client.post("/embed", json={"inputs": inputs, **options}).json()["data"]
    return np.array([entry["embedding"] for entry in data])


def same(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.array(found), wanted, atol=1e-5)


@pytest.fixture
def sdk(service: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0, timeout=60) as sdk:
        yield sdk


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}, {"dimensions": 16}, {"user": "me"}])
def test_openai_gets_the_vectors_of_embed(
    sdk: openai.OpenAI, client: httpx.Client, bundle: Bundle, options: dict[str, Any]
) -> None:
    answer = sdk.embeddings.create(model=bundle.id, input=TEXTS, **options)
    dimensions = {"dimensions": options["dimensions"]} if "dimensions" in options else {}
    same([entry.embedding for entry in answer.data], expected(client, TEXTS, **dimensions))
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert (answer.object, answer.model) == ("list", bundle.id)
    tokens = sum(map(len, bundle.tokenizer().encode(TEXTS)))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)


def test_openai_asks_for_base64_if_not_told_otherwise(sdk: openai.OpenAI, bundle: Bundle) -> None:
    raw = sdk.embeddings.with_raw_response.create(model=bundle.id, input=TEXTS[0])
    assert isinstance(raw.http_response.json()["data"][0]["embedding"], str)
    assert raw.headers["x-request-id"]
    assert "total;dur=" in raw.headers["server-timing"]
    assert len(raw.parse().data[0].embedding) == bundle.dimensions


def test_openai_with_images(sdk: openai.OpenAI, client: httpx.Client, bundle: Bundle) -> None:
    wanted = expected(client, [{"image": CAT}])
    infinity = sdk.embeddings.create(model=bundle.id, input=[CAT], extra_body={"modality": "image"})
    jina: Any = [{"image": f"data:image/png;base64,{CAT}"}]
    same([entry.embedding for entry in infinity.data], wanted)
    same([entry.embedding for entry in sdk.embeddings.create(model=bundle.id, input=jina).data], wanted)


def test_openai_asynchronously(service: Running, client: httpx.Client, bundle: Bundle) -> None:
    async def embed_each() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=KEY, timeout=60) as sdk:
            answers = await asyncio.gather(*(sdk.embeddings.create(model=bundle.id, input=text) for text in TEXTS))
            return [answer.data[0].embedding for answer in answers]

    same(asyncio.run(embed_each()), expected(client, TEXTS))


def test_openai_lists_the_models(sdk: openai.OpenAI, bundle: Bundle) -> None:
    assert [model.id for model in sdk.models.list()] == [bundle.id]
    model = sdk.models.retrieve(bundle.id)
    assert (model.id, model.object) == (bundle.id, "model")
    with pytest.raises(openai.NotFoundError) as raised:
        sdk.models.retrieve("someone/some-model")
    assert raised.value.code == "model_not_found"


def test_openai_tells_errors_apart(sdk: openai.OpenAI, bundle: Bundle) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        sdk.embeddings.create(model="text-embedding-3-small", input="a cat")
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.UnprocessableEntityError) as too_long:
        sdk.embeddings.create(model=bundle.id, input=["a cat", "cat " * 100])
    assert (too_long.value.code, too_long.value.param) == ("text_too_long", "input.1")
    assert too_long.value.type == "invalid_request_error"
    assert too_long.value.request_id
    assert isinstance(too_long.value.body, dict)
    assert "102 tokens" in too_long.value.body["message"]


def test_langchain(service: Running, client: httpx.Client, bundle: Bundle) -> None:
    embeddings = langchain(service, bundle, check_embedding_ctx_length=False)
    same(embeddings.embed_documents(TEXTS), expected(client, TEXTS))
    same(embeddings.embed_query(TEXTS[0]), expected(client, TEXTS[0])[0])
    same(asyncio.run(embeddings.aembed_documents(TEXTS)), expected(client, TEXTS))
    cut = langchain(service, bundle, check_embedding_ctx_length=False, dimensions=16)
    same(cut.embed_query(TEXTS[0]), expected(client, TEXTS[0], dimensions=16)[0])


@pytest.mark.skipif(not _CL100K.exists(), reason="tiktoken would have to load its vocabulary from elsewhere")
def test_langchain_with_token_ids_is_told_what_to_change(
    service: Running, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(_TOKENIZER_FILES))
    with pytest.raises(openai.UnprocessableEntityError, match="check_embedding_ctx_length=False"):
        langchain(service, bundle).embed_documents(TEXTS)


def langchain(service: Running, bundle: Bundle, **options: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(base_url=f"{service.url}/v1", api_key=KEY, model=bundle.id, max_retries=0, **options)


def test_llama_index(service: Running, client: httpx.Client, bundle: Bundle) -> None:
    embeddings = llama_index_embedding(service, model_name=bundle.id)
    same(embeddings.get_text_embedding_batch(TEXTS), expected(client, TEXTS))
    same(embeddings.get_query_embedding(TEXTS[0]), expected(client, TEXTS[0])[0])
    same(asyncio.run(embeddings.aget_text_embedding(TEXTS[0])), expected(client, TEXTS[0])[0])
    cut = llama_index_embedding(service, model_name=bundle.id, dimensions=16)
    same(cut.get_text_embedding(TEXTS[0]), expected(client, TEXTS[0], dimensions=16)[0])


def test_llama_index_without_a_model_name_is_told_which_there_are(service: Running, bundle: Bundle) -> None:
    with pytest.raises(openai.NotFoundError, match=bundle.id):
        llama_index_embedding(service).get_text_embedding(TEXTS[0])


def llama_index_embedding(service: Running, **options: Any) -> OpenAIEmbedding:
    return OpenAIEmbedding(api_base=f"{service.url}/v1", api_key=KEY, max_retries=0, **options)


@pytest.mark.parametrize("template", [None, "a drawing of a {}."])
def test_hugging_face(service: Running, client: httpx.Client, bundle: Bundle, template: str | None) -> None:
    labels = ["cat", "rocket", "cup of coffee"]
    task = huggingface_hub.InferenceClient(f"{service.url}/models/{bundle.id}", token=KEY)
    templates = [template or "This is a photo of {}."]
    native = client.post("/classify", json={"inputs": {"image": CAT}, "labels": labels, "templates": templates}).json()
    wanted = [(each["label"], pytest.approx(each["score"], abs=1e-4)) for each in native["data"][0]["predictions"]]
    for image in (pictures.read("cat"), pictures.FILES["cat"]):
        found = task.zero_shot_image_classification(image, labels, hypothesis_template=template)
        assert [(each.label, each.score) for each in found] == wanted


def test_hugging_face_shows_why_it_was_refused(service: Running, bundle: Bundle) -> None:
    task = huggingface_hub.InferenceClient(f"{service.url}/models/{bundle.id}", token=KEY)
    with pytest.raises(HfHubHTTPError, match=r"exactly one \{\}") as refused:
        task.zero_shot_image_classification(pictures.read("cat"), ["a", "b"], hypothesis_template="a photo")
    assert refused.value.response.status_code == 422
    elsewhere = huggingface_hub.InferenceClient(f"{service.url}/models/openai/clip-vit-base-patch32", token=KEY)
    with pytest.raises(HfHubHTTPError, match=bundle.id):
        elsewhere.zero_shot_image_classification(pictures.read("cat"), ["a", "b"])
