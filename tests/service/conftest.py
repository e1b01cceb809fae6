from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from benchmarks.redis_server import RedisServer
from benchmarks.service_process import Running, running
from model.bundle import Bundle, bundled
from model.manifest import MANIFEST
from model.runtime.engine import Engine
from service.inference.batcher import Batcher, Run
from service.routes.compat import APIS
from service.schema import answers
from service.schema.compat import (
    cohere,
    immich,
    infinity,
    jina,
    ollama,
    open_inference,
    openai,
    roboflow,
    sagemaker,
    tei,
    voyage,
    weaviate,
)
from service.web.error_shapes import ErrorShapes
from tests.service.gated_tower import GatedTower
from tests.service.https_server import HttpsServer, serving
from tests.service.internet import NAME
from tests.service.redis_or_skip import redis_server

if TYPE_CHECKING:
    from tests.service.browser import Page
    from tests.service.llip import Llip

ANSWERS: dict[str, Any] = {  # models, or unions of them
    "/embed": answers.EmbedAnswer,
    "/similarity": answers.SimilarityAnswer,
    "/classify": answers.ClassifyAnswer,
    "/label-sets": answers.LabelSetsAnswer,
    "/info": answers.InfoAnswer,
    "/models": infinity.ListedModelsAnswer | answers.ModelsAnswer,
    "/v1/embeddings": openai.EmbeddingsAnswer,
    "/v1/classify": jina.LabelsAnswer,
    "/v1/rerank": jina.RerankAnswer | voyage.VoyageRerankAnswer,
    "/v2/embed": cohere.CohereEmbedAnswer,
    "/v2/rerank": cohere.CohereRerankAnswer,
    "/v1/multimodalembeddings": voyage.MultimodalAnswer,
    "/vectorize": weaviate.VectorizeAnswer,
    "/meta": weaviate.VectorizerMetaAnswer,
    "/api/embed": ollama.OllamaEmbedAnswer,
    "/api/tags": ollama.OllamaTagsAnswer,
    "/tei/info": tei.TeiInfoAnswer,
    "/rerank": infinity.StringRerankAnswer | list[tei.TeiRank],
    "/props": infinity.PropsAnswer,
    "/clip/embed_image": roboflow.EmbeddingsByOrder,
    "/clip/embed_text": roboflow.EmbeddingsByOrder,
    "/clip/compare": roboflow.CompareAnswer,
    "/v1/models": openai.ModelList,
    "/v2": open_inference.ServerMetadataAnswer,
    "/predict": immich.PredictAnswer,
    "/invocations": sagemaker.InvocationAnswer,
}


ERROR_SHAPES = ErrorShapes((api.router, api.error_shape) for api in APIS)


@cache
def strict_error(path: str) -> type[BaseModel]:
    """The model of the errors at a path, which takes nothing else."""
    model = ERROR_SHAPES.find(path).model
    return type("StrictError", (model,), {"model_config": ConfigDict(extra="forbid", strict=True)})


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one in SIGHTWORD_MODEL, or the checkpoint that ships, or random weights."""
    if chosen := os.environ.get("SIGHTWORD_MODEL"):
        return Path(chosen)
    if (bundled() / MANIFEST).exists():
        return bundled()
    return random_bundle(tmp_path_factory.mktemp("bundle"))


def random_bundle(path: Path) -> Path:
    import torch

    from model.config import Preprocessing, load_preset
    from model.export.bundle import export_bundle
    from model.network import CLIP
    from model.tokenizers.clip import Tokenizer

    torch.manual_seed(0)
    config = load_preset("sightword-small")
    export_bundle(
        CLIP(config),
        path,
        tokenizer=Tokenizer.clip(config.text.vocab_size, config.text.context_length),
        preprocessing=Preprocessing(size=config.image.image_size, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    )
    return path


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.load(bundle_path)


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Other weights than those of `bundle`."""
    return Bundle.load(random_bundle(tmp_path_factory.mktemp("other") / "bundle"))


@pytest.fixture(scope="session")
def llip(tmp_path_factory: pytest.TempPathFactory) -> Llip:
    from tests.service.llip import exported_llip  # with torch, which most tests do without

    return exported_llip(tmp_path_factory.mktemp("llip") / "bundle")


@pytest.fixture(scope="session")
def llip_service(llip: Llip, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("llip-service"), llip.bundle.path, max_batch="8", timeout_s="300") as service:
        yield service


@pytest.fixture(scope="session")
def engine(bundle: Bundle) -> Engine:
    return Engine(bundle, "cpu")


@pytest.fixture(scope="session")
def service(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With the defaults, and with patience: the machine may be busy with other things."""
    with running(tmp_path_factory.mktemp("service"), bundle_path, timeout_s="300") as service:
        yield service


@pytest.fixture(scope="session")
def narrow(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With small limits."""
    with running(
        tmp_path_factory.mktemp("narrow"),
        bundle_path,
        max_body_bytes="400000",
        max_image_pixels="200000",
        max_items="32",
        max_labels="20",
        queue_items="40",
        max_batch="4",
    ) as service:
        yield service


@pytest.fixture(scope="session")
def browser() -> Iterator[Page]:
    from tests.service.browser import browsing  # with Selenium, which most tests do without

    with browsing() as page:
        yield page


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def cached(redis: RedisServer, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(
        tmp_path_factory.mktemp("cached"), bundle_path, redis_url=redis.url, max_batch="8", timeout_s="120"
    ) as service:
        yield service


@pytest.fixture(scope="module")
def host() -> Iterator[HttpsServer]:
    with serving(NAME) as server:
        yield server


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with checking_client(service) as client:
        yield client


@pytest.fixture
def narrow_client(narrow: Running) -> Iterator[httpx.Client]:
    with checking_client(narrow) as client:
        yield client


def checking_client(service: Running) -> httpx.Client:
    """A client that holds every answer it sees against the schema and the promises made for all of them."""
    return httpx.Client(base_url=service.url, timeout=300, event_hooks={"response": [_check]})


def _check(response: httpx.Response) -> None:
    response.read()
    assert response.headers["x-request-id"]
    assert "total;dur=" in response.headers["server-timing"]
    path, method = response.request.url.path, response.request.method.lower()
    documented = _schema(str(response.request.url.join("/openapi.json")))["paths"]
    if response.is_error:
        assert response.headers["content-type"] == "application/json"
        strict_error(path).model_validate_json(response.content)
    elif path in ANSWERS and response.headers["content-type"] == "application/json":
        TypeAdapter(ANSWERS[path]).validate_json(response.content)
    if method in documented.get(path, {}):
        answers = documented[path][method]["responses"]
        assert str(response.status_code) in answers
        assert response.headers["content-type"].partition(";")[0] in answers[str(response.status_code)]["content"]


@cache
def _schema(url: str) -> dict[str, Any]:
    schema: dict[str, Any] = httpx.get(url).json()
    return schema


@pytest.fixture
def tower(bundle: Bundle, engine: Engine) -> GatedTower:
    return GatedTower(bundle, engine)


@pytest.fixture
def make_batcher() -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def build(run: Run, max_batch: int = 4, **options: Any) -> Batcher:
        made.append(Batcher("text", run, max_batch, **options))
        return made[-1]

    yield build
    for batcher in made:
        batcher.close()
