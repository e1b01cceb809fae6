"""Every row of the contract's table of errors that applies: status, code, and the path of the field."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

from benchmarks.service_process import Running
from tests.service import pictures

DEEP = "[" * 5000
CAT = {"image": pictures.as_base64("cat")}
Case = tuple[str, dict[str, Any], str, str | None]


def tall(*sides: int) -> str:
    """A PNG whose header announces these sides; there is nothing behind it."""
    header = b"IHDR" + struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0)
    end = b"\x00\x00\x00\x00IEND\xaeB`\x82"
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end
    return base64.b64encode(data).decode()


def refused(client: httpx.Client, path: str, status: int, code: str, param: str | None, **request: Any) -> str:
    answer = client.post(path, **request)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    message: str = error["message"]
    assert message.endswith(".")
    return message


NOT_JSON = [b"", b"{", b"nonsense", DEEP.encode(), b'{"inputs": NaN}', b'{"inputs": "\xff"}']


@pytest.mark.parametrize("body", [*NOT_JSON, b"[]", b"5", b'"text"', b"null"])
@pytest.mark.parametrize("path", ["/embed", "/similarity", "/classify"])
def test_what_is_not_a_json_object(client: httpx.Client, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert "body" in refused(client, path, 422, "invalid_request", None, content=body, headers=headers)


WRONG_FIELDS: list[Case] = [
    ("/embed", {}, "inputs", "missing"),
    ("/embed", {"inputs": None}, "inputs", None),
    ("/embed", {"inputs": []}, "inputs", "empty"),
    ("/embed", {"inputs": ""}, "inputs", "empty"),
    ("/embed", {"inputs": "  \n"}, "inputs", "empty"),
    ("/embed", {"inputs": 5}, "inputs", None),
    ("/embed", {"inputs": ["a", 5]}, "inputs.1", None),
    ("/embed", {"inputs": ["a", ["b"]]}, "inputs.1", None),
    ("/embed", {"inputs": [{}]}, "inputs.0", None),
    ("/embed", {"inputs": {"text": 5}}, "inputs.text", "string"),
    ("/embed", {"inputs": [{"image": None}]}, "inputs.0.image", "string"),
    ("/embed", {"inputs": [{"image": ""}]}, "inputs.0.image", "empty"),
    ("/embed", {"inputs": [{"text": "a", "image": "b"}]}, "inputs.0", "exactly one"),
    ("/embed", {"inputs": [{"txt": "a"}]}, "inputs.0.txt", "no such field"),
    ("/embed", {"inputs": "a", "input": "b"}, "input", "no such field"),
    ("/embed", {"inputs": "a", "x" * 10_000: 1}, "x" * 200, None),
    ("/embed", {"inputs": "a", "dimensions": 0}, "dimensions", None),
    ("/embed", {"inputs": "a", "dimensions": 10**30}, "dimensions", None),
    ("/embed", {"inputs": "a", "dimensions": 100_000}, "dimensions", "at most"),
    ("/embed", {"inputs": "a", "dimensions": "8"}, "dimensions", None),
    ("/embed", {"inputs": "a", "dimensions": 8.5}, "dimensions", None),
    ("/embed", {"inputs": "a", "normalize": "yes"}, "normalize", None),
    ("/embed", {"inputs": "a", "encoding_format": "hex"}, "encoding_format", "base64"),
    ("/embed", {"inputs": "a", "on_error": "ignore"}, "on_error", None),
    ("/embed", {"inputs": "a", "model": 1}, "model", None),
    ("/similarity", {"queries": "a"}, "candidates", "missing"),
    ("/similarity", {"queries": "a", "candidates": [{"image": 1}]}, "candidates.0.image", None),
    ("/similarity", {"queries": "a", "candidates": "b", "top_k": 0}, "top_k", None),
    ("/classify", {"inputs": "a"}, "labels", None),
    ("/classify", {"inputs": "a", "labels": []}, "labels", None),
    ("/classify", {"inputs": "a", "labels": "cat"}, "labels", "list"),
    ("/classify", {"inputs": "a", "labels": ["a", 1]}, "labels.1", None),
    ("/classify", {"inputs": "a", "labels": ["a", " "]}, "labels.1", "empty"),
    ("/classify", {"inputs": "a", "labels": ["a cat", " a  cat\n"]}, "labels.1", "twice"),
    ("/classify", {"inputs": "a", "labels": ["a", "b", "a"]}, "labels.2", "twice"),
    ("/classify", {"inputs": "a", "labels": ["a"], "label_set": "b"}, "labels", None),
    ("/classify", {"inputs": "a", "labels": ["a"], "templates": []}, "templates", None),
    ("/classify", {"inputs": "a", "labels": ["a"], "templates": ["{}"], "template_set": "b"}, "template_set", None),
    ("/classify", {"inputs": "a", "labels": ["a"], "template_set": "b"}, "template_set", None),
    ("/classify", {"inputs": "a", "labels": ["a"], "threshold": 1.5}, "threshold", None),
    ("/classify", {"inputs": "a", "labels": ["a"], "multi_label": 1}, "multi_label", None),
]


@pytest.mark.parametrize(("path", "body", "param", "said"), WRONG_FIELDS)
def test_wrong_fields_are_named(
    client: httpx.Client, path: str, body: dict[str, Any], param: str, said: str | None
) -> None:
    message = refused(client, path, 422, "invalid_request", param, json=body)
    assert said is None or said in message


@pytest.mark.parametrize("query", ["dimensions=x", "dimension=8", "inputs=a", "dimensions=8&dimensions=9"])
def test_wrong_query_parameters_are_named(client: httpx.Client, query: str) -> None:
    request = {"content": pictures.read("rocket"), "headers": {"content-type": "image/jpeg"}}
    refused(client, f"/embed?{query}", 422, "invalid_request", query.partition("=")[0], **request)


def test_json_takes_no_options_from_the_query(client: httpx.Client) -> None:
    refused(client, "/embed?dimensions=8", 422, "invalid_request", None, json={"inputs": "a"})


def test_a_text_over_the_context_says_how_many_tokens(client: httpx.Client) -> None:
    message = refused(client, "/embed", 422, "text_too_long", "inputs.1", json={"inputs": ["a", "cat " * 100]})
    assert "102 tokens" in message
    assert "77" in message
    refused(client, "/similarity", 422, "text_too_long", "candidates.text",
            json={"queries": "a", "candidates": {"text": "cat " * 100}})  # fmt: skip


def test_a_text_of_endless_characters_says_how_to_send_it(client: httpx.Client) -> None:
    message = refused(client, "/embed", 422, "text_too_long", "inputs", json={"inputs": "cat " * 5_000})
    assert "more than 77 tokens" in message
    assert '"truncate": true' in message
    spaces = refused(client, "/embed", 422, "text_too_long", "inputs", json={"inputs": "cat" + " " * 20_000 + "dog"})
    assert "20006 characters, of which 10000 are read" in spaces


@pytest.mark.parametrize("template", ["a photo", "{} and {}", "{label}", "{ }"])
def test_templates_need_one_place(client: httpx.Client, template: str) -> None:
    body = {"inputs": "a", "labels": ["b"], "templates": ["a {}", template]}
    refused(client, "/classify", 422, "invalid_template", "templates.1", json=body)


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("bm90IGFuIGltYWdl", "invalid_image"),
        ("not base64!", "invalid_image"),
        (CAT["image"][:-3], "invalid_image"),
        (CAT["image"][:40_000], "invalid_image"),
        (CAT["image"][:100] + "\n" + CAT["image"][100:], "invalid_image"),
        ("data:image/png,abc", "invalid_image"),
        ("é" * 8, "invalid_image"),
        (tall(0, 5), "invalid_image"),
        (tall(20_000, 20_000), "image_too_large"),
        (tall(2**31 - 1, 2**31 - 1), "image_too_large"),
        ("https://example.com/cat.jpg", "url_not_allowed"),
        ("HTTP://127.0.0.1:22/", "url_not_allowed"),
        ("file:///etc/passwd", "url_not_allowed"),
    ],
    ids=range(13),
)
def test_images_that_cannot_be_read(client: httpx.Client, image: str, code: str) -> None:
    status = 413 if code == "image_too_large" else 422
    refused(client, "/embed", status, code, "inputs.1.image", json={"inputs": ["a", {"image": image}]})


@pytest.mark.parametrize("name", ["ICO", "PCX", "TGA", "PPM"])
def test_other_formats_are_refused(client: httpx.Client, name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, name)
    request = {"content": file.getvalue(), "headers": {"content-type": "image/png"}}
    refused(client, "/embed", 422, "invalid_image", "inputs", **request)


def test_an_empty_image_body(client: httpx.Client) -> None:
    refused(client, "/embed", 422, "invalid_request", "inputs", headers={"content-type": "image/png"})


def test_unknown_model_and_label_set(client: httpx.Client) -> None:
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/embed", {"inputs": "a"}),
        ("/similarity", {"queries": "a", "candidates": "b"}),
        ("/classify", {"inputs": "a", "labels": ["b"]}),
    ]
    for path, body in requests:
        refused(client, path, 404, "model_not_found", "model", json={**body, "model": "another"})
    body = {"inputs": "a", "label_set": "animals"}
    refused(client, "/classify", 404, "label_set_not_found", "label_set", json=body)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/mixed"])
def test_media_types_that_are_not_read(client: httpx.Client, media_type: str) -> None:
    request = {"content": b'{"inputs": "a"}', "headers": {"content-type": media_type}}
    refused(client, "/embed", 415, "unsupported_media_type", None, **request)


def test_an_image_where_only_json_is_read(client: httpx.Client) -> None:
    request = {"content": pictures.read("rocket"), "headers": {"content-type": "image/jpeg"}}
    refused(client, "/similarity", 415, "unsupported_media_type", None, **request)


def test_a_coded_body_is_not_read(client: httpx.Client) -> None:
    for media_type in ("application/json", "image/png"):
        headers = {"content-type": media_type, "content-encoding": "gzip"}
        refused(client, "/embed", 415, "unsupported_media_type", None, content=b"\x1f\x8b", headers=headers)


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    refused(client, "/embed/", 404, "not_found", None, json={})
    assert client.get("/nothing/here").json()["error"]["code"] == "not_found"
    answer = client.get("/embed")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    refused(client, "/info", 405, "method_not_allowed", None, json={})


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_request_timeout_must_be_seconds(client: httpx.Client, value: str) -> None:
    request = {"json": {"inputs": "a"}, "headers": {"x-request-timeout": value}}
    refused(client, "/embed", 422, "invalid_request", "x-request-timeout", **request)


def test_request_ids(client: httpx.Client) -> None:
    assert client.get("/info", headers={"x-request-id": "mine-1.2:3_4"}).headers["x-request-id"] == "mine-1.2:3_4"
    for odd in ("a b", "x" * 200, 'quote"', ""):
        given = client.get("/info", headers={"x-request-id": odd}).headers["x-request-id"]
        assert given != odd
        assert given.isalnum()
    refusal = client.post("/embed", json={}, headers={"x-request-id": "kept-on-errors"})
    assert refusal.headers["x-request-id"] == "kept-on-errors"


class TestSmallLimits:
    def test_too_many_items(self, narrow_client: httpx.Client) -> None:
        many = ["a"] * 33
        assert "32" in refused(narrow_client, "/embed", 422, "too_many_inputs", "inputs", json={"inputs": many})
        body = {"queries": "a", "candidates": many}
        refused(narrow_client, "/similarity", 422, "too_many_inputs", "candidates", json=body)

    @pytest.mark.parametrize(
        ("labels", "templates", "param"),
        [(21, None, "labels"), (1, 21, "templates"), (7, 3, "templates")],
    )
    def test_too_many_labels(self, narrow_client: httpx.Client, labels: int, templates: int, param: str) -> None:
        body: dict[str, Any] = {"inputs": "a", "labels": [f"label {n}" for n in range(labels)]}
        if templates:
            body["templates"] = [f"{n} {{}}" for n in range(templates)]
        refused(narrow_client, "/classify", 422, "too_many_inputs", param, json=body)

    def test_pixels_are_counted_from_the_header(self, narrow_client: httpx.Client) -> None:
        refused(
            narrow_client, "/embed", 413, "image_too_large", "inputs.image", json={"inputs": {"image": tall(500, 401)}}
        )

    def test_a_declared_body_over_the_limit(self, narrow_client: httpx.Client) -> None:
        refused(narrow_client, "/embed", 413, "body_too_large", None, content=b" " * 400_001)

    def test_a_body_without_a_length_is_counted_as_it_comes(self, narrow_client: httpx.Client) -> None:
        chunks = (b" " * 50_000 for _ in range(9))
        refused(narrow_client, "/embed", 413, "body_too_large", None, content=chunks)

    def test_the_largest_body_is_read(self, narrow_client: httpx.Client) -> None:
        body = json.dumps({"inputs": "a"}).encode().ljust(400_000)
        headers = {"content-type": "application/json"}
        assert narrow_client.post("/embed", content=body, headers=headers).status_code == 200


def test_an_answer_of_too_many_predictions(client: httpx.Client) -> None:
    body = {"inputs": ["a"] * 500, "labels": [f"label {n}" for n in range(501)]}
    refused(client, "/classify", 422, "too_many_inputs", "top_k", json=body)


def test_damaged_files_never_break_the_service(client: httpx.Client, service: Running) -> None:
    """A few of many: bytes changed, dropped and doubled."""
    chosen = random.Random(4)
    files = [pictures.read(name) for name in ("rocket", "logo", "clip")]
    for _ in range(60):
        data = bytearray(chosen.choice(files))
        for _ in range(chosen.randint(1, 20)):
            data[chosen.randrange(min(len(data), 2000))] = chosen.randrange(256)
        del data[chosen.randrange(len(data)) :: chosen.choice([1, 100_000])]
        answer = client.post("/embed", content=bytes(data), headers={"content-type": "image/png"})
        assert answer.status_code in (200, 413, 422), answer.text
    assert client.get("/health/ready").status_code == 200
    assert "Traceback" not in service.log()
