"""The service on OpenVINO, which is another build of onnxruntime: `make test-openvino` installs it and runs this."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from benchmarks.service_process import running
from model.bundle import Bundle, bundled, write_manifest
from model.images.preprocessing import load_image
from model.manifest import MANIFEST, TEXT_GRAPH
from model.runtime.engine import Engine
from model.runtime.processor import multiplies_bf16
from model.runtime.providers import PROVIDERS
from model.smoke_inputs import pixels as smoke_pixels
from model.smoke_inputs import token_rows
from tests.service import pictures
from tests.service.redis_or_skip import redis_server

OPENVINO = PROVIDERS["openvino"]
TEXTS = ["a dog", "a red cup of coffee on a table", "snow " * 20]
pytestmark = pytest.mark.skipif(
    OPENVINO not in ort.get_available_providers(), reason="this onnxruntime has no OpenVINO: make test-openvino"
)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(bundled())


@pytest.fixture(scope="module")
def exact(bundle: Bundle) -> Engine:
    return Engine(bundle, "cpu")


def test_the_service_says_that_it_is_active_and_gives_the_vectors_of_any_other(
    bundle: Bundle, exact: Engine, tmp_path: Path
) -> None:
    with running(tmp_path, bundle.path, "--provider", "openvino") as service:
        assert httpx.get(f"{service.url}/info").json()["models"][0]["provider"] == OPENVINO
        body = {"inputs": [*TEXTS, {"image": pictures.as_base64("cat")}], "truncate": True}
        answer = httpx.post(f"{service.url}/embed", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    *texts, picture = (each["embedding"] for each in answer.json()["data"])
    tokenizer = bundle.tokenizer()
    for row, vector in zip(tokenizer.encode(TEXTS), texts, strict=True):
        np.testing.assert_allclose([vector], exact.embed_texts(tokenizer.pad([tokenizer.truncate(row)])), atol=1e-5)
    pixels = load_image(pictures.read("cat"), bundle.preprocessing)[None]
    np.testing.assert_allclose([picture], exact.embed_images(pixels), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batches_and_texts_of_all_sizes(bundle: Bundle, exact: Engine, precision: str) -> None:
    asked = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"precision": precision}))
    engine, tokenizer = Engine(asked, "openvino"), bundle.tokenizer()
    engine.warm_up()
    pixels = smoke_pixels(bundle.preprocessing, 9)
    for batch in (pixels[:1], pixels[1:4], pixels, pixels[:2]):
        _expect_close(engine.embed_images(batch), exact.embed_images(batch), precision)
    for row in token_rows(tokenizer)[::7]:
        ids = tokenizer.pad([row, row[:2] + row[-1:]])
        _expect_close(engine.embed_texts(ids), exact.embed_texts(ids), precision)


def test_replicas_on_other_providers_do_not_share_vectors(bundle: Bundle, tmp_path: Path) -> None:
    """Of one bundle in bf16, which the CPU provider widens to fp32, and OpenVINO computes as it is where it can."""
    source = bundle_in_bf16(bundle, tmp_path / "bf16")
    items = [pictures.as_base64("cat"), pictures.as_base64("rocket")]
    body = {"inputs": [{"image": item} for item in items]}
    with redis_server(tmp_path) as redis:

        def vectors(provider: str, hits: int) -> NDArray[Any]:
            settings = {"redis_url": redis.url, "module": "tests.service.patient_service", "timeout_s": "120"}
            with running(tmp_path, source, "--provider", provider, **settings) as service:
                answer = httpx.post(f"{service.url}/embed", json=body, timeout=60).json()
                assert service.metric("sightword_cache_lookups_total", tier="redis", outcome="hit") == hits
            return np.array([each["embedding"] for each in answer["data"]])

        on_cpu, on_openvino = vectors("cpu", 0), vectors("openvino", 0)
        np.testing.assert_array_equal(vectors("openvino", 2), on_openvino)
        np.testing.assert_array_equal(vectors("cpu", 2), on_cpu)
    assert (np.abs(on_openvino - on_cpu).max() > 1e-5) == multiplies_bf16()


def test_nodes_that_it_leaves_to_the_cpu_are_told(bundle: Bundle, exact: Engine, tmp_path: Path) -> None:
    """One that copies its input, which only onnxruntime itself has a kernel for."""
    source = tmp_path / "bundle"
    shutil.copytree(bundle.path, source)
    proto = onnx.load(source / TEXT_GRAPH, load_external_data=False)
    last = next(node for node in proto.graph.node if "embeddings" in node.output)
    last.output[0] = "copied"
    proto.graph.node.append(onnx.helper.make_node("SampleOp", ["copied"], ["embeddings"], domain="com.microsoft"))
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, source / TEXT_GRAPH)
    write_manifest(source, bundle.manifest.model_dump(mode="json", exclude={"files"}))
    with running(tmp_path, source, "--provider", "openvino") as service:
        [model] = httpx.get(f"{service.url}/info").json()["models"]
        assert model["provider"] == OPENVINO
        assert model["fallback_nodes"] == {"image": {}, "text": {"com.microsoft.SampleOp": 1}}
        answer = httpx.post(f"{service.url}/embed", json={"inputs": TEXTS[:1]}, timeout=60).json()
        assert "left 1 of its nodes to the CPU, and each waits for a copy: 1 com.microsoft.SampleOp" in service.log()
    ids = bundle.tokenizer().pad(bundle.tokenizer().encode(TEXTS[:1]))
    np.testing.assert_allclose([answer["data"][0]["embedding"]], exact.embed_texts(ids), atol=1e-5)


def bundle_in_bf16(bundle: Bundle, path: Path) -> Path:
    """The same files, and so the same digest, but what they are to be computed in."""
    shutil.copytree(bundle.path, path)
    manifest = bundle.manifest.model_copy(update={"precision": "bf16"})
    (path / MANIFEST).write_text(manifest.model_dump_json())
    return path


def _expect_close(vectors: NDArray[Any], expected: NDArray[Any], precision: str) -> None:
    cosines = (vectors * expected).sum(axis=1)
    if precision == "bf16" and multiplies_bf16():
        assert cosines.min() > 0.999
        assert np.abs(vectors - expected).max() > 1e-5, "it was not computed in bf16"
    else:
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
