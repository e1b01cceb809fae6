"""The client of Triton, for the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.sdks.clients import MODEL, Client
from tests.sdks.inputs import BASE64, IMAGE, PICTURE, REFUSAL, TEXTS, TOO_LONG

DIMENSIONS = 256


def tensor(name: str, values: list[Any], binary: bool = True) -> Any:
    from tritonclient.http import InferInput

    array = np.array(values, dtype=object)
    return InferInput(name, list(array.shape), "BYTES").set_data_from_numpy(array, binary_data=binary)


class TestTriton:
    client = Client(
        "Open Inference Protocol",
        "tritonclient",
        "tritonclient",
        """
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(urlsplit("http://localhost:8000").netloc)  # host and port alone
text = triton.InferInput("text", [1], "BYTES")  # or "image", whose elements are files
text.set_data_from_numpy(np.array(["a cat"], dtype=object))
vectors = client.infer("sightword-small", [text]).as_numpy("embedding")
""",
        "HTTP only; no compressed requests, no shared memory; inputs are called `text` and `image`",
    )

    def test_health_and_metadata(self, here: Any) -> None:
        assert here.client.is_server_live()
        assert here.client.is_server_ready()
        assert here.client.is_model_ready(MODEL)
        assert here.client.is_model_ready(MODEL, "1")
        assert not here.client.is_model_ready("other")
        assert here.client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        assert here.client.get_model_metadata(MODEL)["outputs"][0]["shape"] == [-1, DIMENSIONS]

    @pytest.mark.parametrize("binary", [True, False])
    @pytest.mark.parametrize("output", [None, True, False])
    def test_texts_and_images(self, here: Any, vectors: Any, binary: bool, output: bool | None) -> None:
        image = PICTURE.read_bytes() if binary else BASE64
        inputs = [tensor("text", TEXTS, binary), tensor("image", [image], binary)]
        outputs = None if output is None else [here.triton.InferRequestedOutput("embedding", binary_data=output)]
        result = here.client.infer(MODEL, inputs, outputs=outputs, request_id="7", model_version="1")
        np.testing.assert_array_equal(result.as_numpy("embedding"), vectors(*TEXTS, IMAGE).astype(np.float32))
        assert result.get_response()["id"] == "7"

    def test_the_setting_below(self, here: Any, vectors: Any) -> None:
        np.testing.assert_array_equal(here.vectors, vectors("a cat").astype(np.float32))

    @pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
    def test_clear_refusal_of_compressed_requests(self, here: Any, algorithm: str) -> None:
        inputs = [tensor("text", TEXTS)]
        with pytest.raises(here.triton.InferenceServerException, match="without Content-Encoding"):
            here.client.infer(MODEL, inputs, request_compression_algorithm=algorithm)
        plain = here.client.infer(MODEL, inputs, response_compression_algorithm=algorithm)
        assert plain.as_numpy("embedding").shape == (len(TEXTS), DIMENSIONS)

    def test_cut_texts(self, here: Any, vectors: Any) -> None:
        answer = here.client.infer(MODEL, [tensor("text", [TOO_LONG])], parameters={"truncate": True})
        expected = vectors(TOO_LONG, truncate=True).astype(np.float32)
        np.testing.assert_array_equal(answer.as_numpy("embedding"), expected)

    def test_refusals(self, here: Any) -> None:
        with pytest.raises(here.triton.InferenceServerException, match=REFUSAL):
            here.client.infer(MODEL, [tensor("text", [TOO_LONG])])
        with pytest.raises(here.triton.InferenceServerException, match="No model of this name"):
            here.client.infer("other", [tensor("text", TEXTS)])
        with pytest.raises(here.triton.InferenceServerException, match="only binary_tensor_data"):
            here.client.get_model_repository_index()
