"""The client of Triton, for the Open Inference Protocol."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running
from model.bundle import Bundle
from tests.service import pictures

triton = pytest.importorskip("tritonclient.http", reason="pip install tritonclient[http]")
CAT = pictures.read("cat")
TEXTS = ["a cat", "ein großer Hund"]


@pytest.fixture
def triton_client(service: Running) -> Any:
    with triton.InferenceServerClient(service.url.removeprefix("http://")) as made:
        yield made


def tensor(name: str, values: list[Any], binary: bool) -> Any:
    array = np.array(values, dtype=object)
    made = triton.InferInput(name, list(array.shape), "BYTES")
    return made.set_data_from_numpy(array, binary_data=binary)


def test_health_and_metadata(triton_client: Any, bundle: Bundle) -> None:
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready(bundle.id)
    assert triton_client.is_model_ready(bundle.id, "1")
    assert not triton_client.is_model_ready("other")
    assert triton_client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert triton_client.get_model_metadata(bundle.id)["outputs"][0]["shape"] == [-1, bundle.dimensions]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("output", [None, True, False])
def test_infer(triton_client: Any, client: httpx.Client, bundle: Bundle, binary: bool, output: bool | None) -> None:
    picture = CAT if binary else base64.b64encode(CAT).decode()
    inputs = [tensor("text", TEXTS, binary), tensor("image", [picture], binary)]
    outputs = None if output is None else [triton.InferRequestedOutput("embedding", binary_data=output)]
    result = triton_client.infer(bundle.id, inputs, outputs=outputs, request_id="7", model_version="1")
    native = client.post("/embed", json={"inputs": [*TEXTS, {"image": base64.b64encode(CAT).decode()}]}).json()["data"]
    expected = np.array([entry["embedding"] for entry in native], np.float32)
    np.testing.assert_array_equal(result.as_numpy("embedding"), expected)
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(triton_client: Any, bundle: Bundle, algorithm: str) -> None:
    inputs = [tensor("text", TEXTS, True)]
    with pytest.raises(triton.InferenceServerException, match="without Content-Encoding"):
        triton_client.infer(bundle.id, inputs, request_compression_algorithm=algorithm)
    plain = triton_client.infer(bundle.id, inputs, response_compression_algorithm=algorithm)
    assert plain.as_numpy("embedding").shape == (2, bundle.dimensions)


def test_refusals_show_their_sentence(triton_client: Any, bundle: Bundle) -> None:
    with pytest.raises(triton.InferenceServerException, match="No model of this name"):
        triton_client.infer("other", [tensor("text", TEXTS, True)])
    with pytest.raises(triton.InferenceServerException, match="tokens"):
        triton_client.infer(bundle.id, [tensor("text", ["cat " * 200], True)])
    with pytest.raises(triton.InferenceServerException, match="only binary_tensor_data"):
        triton_client.get_model_repository_index()
