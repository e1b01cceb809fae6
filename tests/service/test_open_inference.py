"""The Open Inference Protocol, with bodies as tritonclient 2.73 writes them."""

from __future__ import annotations

import base64
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from model.bundle import Bundle
from service.schema.compat.open_inference import InferAnswer
from tests.service import pictures

LENGTH = "Inference-Header-Content-Length"
CAT = pictures.read("cat")
TEXTS = ["a cat", "ein großer Hund"]


def elements(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def tensor(name: str, data: bytes | list[Any], shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    if isinstance(data, list):
        return {"name": name, "shape": shape or [len(data)], "datatype": "BYTES", "data": data} | more
    return {"name": name, "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}} | more


def infer(client: httpx.Client, bundle: Bundle, request: Any, rest: bytes = b"", **headers: str) -> httpx.Response:
    """As tritonclient sends it: without a content type; the header only where bytes follow."""
    head = json.dumps(request, separators=(",", ":")).encode()
    headers = ({LENGTH: str(len(head))} if rest else {}) | {name.replace("_", "-"): headers[name] for name in headers}
    return client.post(f"/v2/models/{bundle.id}/infer", content=head + rest, headers=headers)


def vectors(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    if length := answer.headers.get(LENGTH):
        head, rest = json.loads(answer.content[: int(length)]), answer.content[int(length) :]
        [output] = InferAnswer.model_validate(head).outputs
        assert output.parameters == {"binary_data_size": len(rest)}
        return np.frombuffer(rest, "<f4").reshape(output.shape)
    [output] = InferAnswer.model_validate_json(answer.content).outputs
    return np.array(output.data, np.float32).reshape(output.shape)


def native(client: httpx.Client, *inputs: Any) -> Any:
    data = client.post("/embed", json={"inputs": list(inputs)}).json()["data"]
    return np.array([entry["embedding"] for entry in data], np.float32)


@pytest.fixture
def expected(client: httpx.Client) -> Any:
    return native(client, *TEXTS, {"image": base64.b64encode(CAT).decode()})


def test_what_the_server_and_the_model_are(client: httpx.Client, bundle: Bundle) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    path = f"/v2/models/{bundle.id}"
    metadata = client.get(path).json()
    assert metadata["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, bundle.dimensions]}]
    assert [each["name"] for each in metadata["inputs"]] == ["text", "image"]
    [version] = metadata["versions"]
    assert client.get(f"{path}/versions/{version}").json() == metadata
    for ready in (f"{path}/ready", f"{path}/versions/{version}/ready"):
        assert client.get(ready).json() == {"name": bundle.id, "ready": True}
    for missing in ("/v2/models/other", "/v2/models/other/ready", f"{path}/versions/2", f"{path}/versions/2/ready"):
        assert client.get(missing).status_code == 404
        assert isinstance(client.get(missing).json()["error"], str)


def test_json(client: httpx.Client, bundle: Bundle, expected: Any) -> None:
    inputs = [tensor("text", TEXTS), tensor("image", [base64.b64encode(CAT).decode()])]
    answer = infer(client, bundle, {"id": "7", "inputs": inputs})
    np.testing.assert_array_equal(vectors(answer), expected)
    assert (answer.json()["id"], answer.json()["model_version"]) == ("7", "1")
    nested = tensor("text", [[TEXTS[0]], [TEXTS[1]]], [2, 1])
    np.testing.assert_array_equal(vectors(infer(client, bundle, {"inputs": [nested]})), expected[:2])


def test_binary(client: httpx.Client, bundle: Bundle, expected: Any) -> None:
    texts, images = elements(*(text.encode() for text in TEXTS)), elements(CAT)
    inputs = [tensor("text", texts, [2]), tensor("image", images, [1, 1])]
    for parameters, outputs, binary in (
        ({"binary_data_output": True}, None, True),
        ({}, None, False),
        ({}, [{"name": "embedding", "parameters": {"binary_data": True}}], True),
        ({"binary_data_output": True}, [{"name": "embedding", "parameters": {"binary_data": False}}], False),
        ({}, [{"name": "embedding"}], False),
    ):
        request = {"inputs": inputs, "parameters": parameters} | ({"outputs": outputs} if outputs else {})
        answer = infer(client, bundle, request, texts + images)
        assert (LENGTH in answer.headers) == binary
        np.testing.assert_array_equal(vectors(answer), expected)
    named = infer(client, bundle, {"inputs": inputs}, texts + images, content_type="application/octet-stream")
    np.testing.assert_array_equal(vectors(named), expected)


def test_pictures_in_words(client: httpx.Client, bundle: Bundle, expected: Any) -> None:
    uri = b"data:image/jpeg;base64," + base64.b64encode(CAT)
    rest = elements(uri)
    answer = infer(client, bundle, {"inputs": [tensor("image", rest, [1])]}, rest)
    np.testing.assert_array_equal(vectors(answer), expected[2:])
    rest = elements(b"https://example.com/cat.jpg")
    refusal = infer(client, bundle, {"inputs": [tensor("image", rest, [1])]}, rest)
    assert refusal.json()["code"] == "url_not_allowed"


def test_the_version_and_long_texts(client: httpx.Client, bundle: Bundle) -> None:
    request = {"inputs": [tensor("text", ["cat " * 200])]}
    assert infer(client, bundle, request).json()["code"] == "text_too_long"
    cut = infer(client, bundle, {**request, "parameters": {"truncate": True}})
    np.testing.assert_array_equal(vectors(cut), native(client, "cat " * 75))
    versions = f"/v2/models/{bundle.id}/versions"
    short = {"inputs": [tensor("text", ["a"])]}
    assert client.post(f"{versions}/1/infer", json=short).status_code == 200
    assert client.post(f"{versions}/2/infer", json=short).status_code == 404


A = elements(b"a")
PARAM = "inputs.0.parameters.binary_data_size"
LIES: list[tuple[dict[str, Any], bytes, str]] = [
    (tensor("text", A, [1], parameters={"binary_data_size": 6}), A, PARAM),
    (tensor("text", A, [1], parameters={"binary_data_size": -1}), A, PARAM),
    (tensor("text", A, [1], parameters={"binary_data_size": True}), A, PARAM),
    (tensor("text", A, [1], parameters={"binary_data_size": 5.0}), A, PARAM),
    (tensor("text", A, [1], parameters={"binary_data_size": 2**70}), A, PARAM),
    ({**tensor("text", A, [1]), "data": ["a"]}, A, PARAM),
    (tensor("text", A, [1], parameters={"binary_data_size": 4}), A, "inputs.0.data"),
    (tensor("text", ["a"]), A, "inputs"),
    (tensor("text", A, [1]), A + b"x", "inputs"),
    (tensor("text", b"xxxxx", [1]), b"\xff\xff\xff\xffx", "inputs.0.data"),
    (tensor("text", b"xxx", [1]), b"\1\0\0", "inputs.0.data"),
    (tensor("text", b"xxxxxx", [1]), A + b"\1", "inputs.0.data"),
    (tensor("text", A, [2]), A, "inputs.0"),
    (tensor("text", A, [2**31]), A, "inputs.0.shape"),
    (tensor("text", A, [-1]), A, "inputs.0.shape"),
    (tensor("text", A, [1] * 9), A, "inputs.0.shape"),
    (tensor("text", A, []), A, "inputs.0.shape"),
    (tensor("text", A, [1], datatype="FP32"), A, "inputs.0.datatype"),
    (tensor("text", A, [1], datatype="INT64"), A, "inputs.0.datatype"),
    (tensor("texts", A, [1]), A, "inputs.0.name"),
    (tensor("text", b"xxxxx", [1]), elements(b"\xff"), "inputs.0.data.0"),
    (tensor("text", b"xxxx", [1]), elements(b""), "inputs.0.data.0"),
    (tensor("image", b"xxxx", [1]), elements(b""), "inputs.0.data.0"),
    (tensor("image", b"xxxxxxxxxxxx", [1]), elements(b"\x80\x04cos\nsy"), "inputs.0.data.0"),  # a pickle
    (tensor("text", b"", [0]), b"", "inputs"),
    (tensor("text", [5], [1]), b"", "inputs.0.data.0"),
    (tensor("text", [["a"], "b"], [2, 1]), b"", "inputs.0.data.0"),
    ({"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"shared_memory_region": "x"}}, b"",
     "inputs.0.parameters.shared_memory_region"),
    ({"name": "text", "shape": [1], "datatype": "BYTES"}, b"", "inputs.0.data"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "rest", "param"), LIES)
def test_lies_are_refused(client: httpx.Client, bundle: Bundle, sent: dict[str, Any], rest: bytes, param: str) -> None:
    answer = infer(client, bundle, {"inputs": [sent]}, rest)
    assert (answer.status_code, answer.json()["param"]) == (422, param), answer.text
    assert answer.json()["error"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"outputs": [{"name": "logits"}]}, "outputs.0.name"),
        ({"outputs": [{"name": "embedding"}] * 2}, "outputs"),
        ({"outputs": [{"name": "embedding", "parameters": {"classification": 3}}]},
         "outputs.0.parameters.classification"),
        ({"outputs": [{"name": "embedding", "parameters": {"shared_memory_region": "x"}}]},
         "outputs.0.parameters.shared_memory_region"),
        ({"inputs": [tensor("text", ["a"])] * 2}, "inputs.1.name"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [5]}, "inputs.0"),
        ({"id": 5}, "id"),
    ],
)  # fmt: skip
def test_what_there_is_not(client: httpx.Client, bundle: Bundle, more: dict[str, Any], param: str) -> None:
    answer = infer(client, bundle, {"inputs": [tensor("text", ["a"])], **more})
    assert (answer.status_code, answer.json()["param"]) == (422, param)


def test_half_of_a_character_is_not_an_id(client: httpx.Client, bundle: Bundle) -> None:
    body = b'{"id": "\\ud800", "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}'
    answer = client.post(f"/v2/models/{bundle.id}/infer", content=body)
    assert (answer.status_code, answer.json()["param"]) == (422, "id")


@pytest.mark.parametrize("length", ["9999", "-1", "x", "1e2", "0x10", "\xb2", "9" * 50])
def test_the_length_of_the_json_lies(client: httpx.Client, bundle: Bundle, length: str) -> None:
    headers = {LENGTH: length.encode("latin-1")}
    answer = client.post(f"/v2/models/{bundle.id}/infer", content=b'{"inputs": []}', headers=headers)
    assert (answer.status_code, answer.json()["param"]) == (422, "inference-header-content-length")


def test_items_are_counted_before_they_are_made(narrow_client: httpx.Client, bundle: Bundle) -> None:
    rest = elements(*[b""] * 50_000)
    for request, body in (
        ({"inputs": [tensor("text", rest, [50_000])]}, rest),
        ({"inputs": [tensor("text", ["a"] * 33)]}, b""),
        ({"inputs": [tensor("text", ["a"] * 20), tensor("image", ["a"] * 20)]}, b""),
    ):
        assert infer(narrow_client, bundle, request, body).json()["code"] == "too_many_inputs"


def test_what_is_not_read(client: httpx.Client, bundle: Bundle) -> None:
    request = {"inputs": [tensor("text", ["a"])]}
    for headers in ({"content_encoding": "gzip"}, {"content_encoding": "deflate"},
                    {"content_type": "application/octet-stream"}):  # fmt: skip
        answer = infer(client, bundle, request, **headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    for path in ("/v2/repository/index", "/v2/systemsharedmemory/status", "/v2/logging"):
        answer = client.post(path)
        assert answer.status_code == 404
        assert "binary_tensor_data" in answer.json()["error"]


def spoilt(chance: random.Random, head: bytes, rest: bytes) -> Iterator[tuple[bytes, str]]:
    for _ in range(300):
        body = bytearray(head + rest)
        for _ in range(chance.choice((1, 1, 3))):
            at = chance.randrange(len(body))
            match chance.randrange(3):
                case 0:
                    body[at] = chance.randrange(256)
                case 1:
                    del body[at : at + chance.randrange(1, 9)]
                case _:
                    body[at:at] = chance.randbytes(4)
        yield bytes(body), str(chance.choice((len(head), len(head), chance.randrange(len(body) + 3))))


def test_spoilt_bodies(client: httpx.Client, bundle: Bundle) -> None:
    rest = elements(b"a cat", b"a dog") + elements(b"\x89PNG\r\n\x1a\n" + bytes(40))
    inputs = [tensor("text", rest[:18], [2]), tensor("image", rest[18:], [1])]
    head = json.dumps({"id": "1", "inputs": inputs, "parameters": {"truncate": True}}).encode()
    for body, length in spoilt(random.Random(7), head, rest):
        answer = client.post(f"/v2/models/{bundle.id}/infer", content=body, headers={LENGTH: length})
        assert answer.status_code in (200, 413, 422), (answer.text, body)
