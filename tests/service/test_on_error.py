"""With `on_error: item`, whatever is wrong with one item is told in its place, and the others are answered."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service import pictures

CAT = {"image": pictures.as_base64("cat")}
# As they stand in the JSON, with the code and the end of the param that are to be told.
BAD = {
    "half of a character": (r'"a \ud800 b"', "invalid_request", ""),
    "the other half": (r'"\udc00\ud800"', "invalid_request", ""),
    "half of a character in a field": (r'{"text": "\ud83d"}', "invalid_request", ".text"),
    "half of a character in base64": (r'{"image": "\ud83d"}', "invalid_image", ".image"),
    "half of a character in a name": (r'{"\ud83d": "a"}', "invalid_request", ".?"),
    "number beyond all bounds": ("1e400", "invalid_request", ""),
    "number of many digits": ("1" * 5000, "invalid_request", ""),
    "number in a field": ('{"text": -1e999}', "invalid_request", ".text"),
    "number": ("5", "invalid_request", ""),
    "null": ("null", "invalid_request", ""),
    "true": ("true", "invalid_request", ""),
    "empty": ('""', "invalid_request", ""),
    "blank": (r'" \n "', "invalid_request", ""),
    "list": ('["a"]', "invalid_request", ""),
    "nested": ("[" * 500 + "]" * 500, "invalid_request", ""),
    "nothing": ("{}", "invalid_request", ""),
    "both": ('{"text": "a", "image": "b"}', "invalid_request", ""),
    "no base64": ('{"image": "no base64"}', "invalid_image", ".image"),
    "cut base64": ('{"image": "QUJDR"}', "invalid_image", ".image"),
    "data URI of another kind": ('{"image": "data:image/png,abc"}', "invalid_image", ".image"),
    "no picture": ('{"image": "QUJD"}', "invalid_image", ".image"),
    "URL": ('{"image": "https://example.com/a.png"}', "url_not_allowed", ".image"),
    "long text": (json.dumps("cat " * 20_000), "text_too_long", ""),
}


def post(client: httpx.Client, path: str, body: str) -> httpx.Response:
    return client.post(path, content=body.encode(), headers={"content-type": "application/json"})


def answered(client: httpx.Client, path: str, body: str) -> Any:
    response = post(client, path, body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_has_an_error_in_its_place(client: httpx.Client, name: str) -> None:
    bad, code, end = BAD[name]
    body = f'{{"inputs": ["a", {bad}, "b"], "on_error": "item"}}'
    entries = answered(client, "/embed", body)["data"]
    assert (entries[1]["index"], entries[1]["error"]["code"]) == (1, code)
    assert entries[1]["error"]["param"] == f"inputs.1{end}"
    good = client.post("/embed", json={"inputs": ["a", "b"]}).json()["data"]
    np.testing.assert_allclose(
        [entries[0]["embedding"], entries[2]["embedding"]], [e["embedding"] for e in good], atol=1e-5
    )
    refused = post(client, "/embed", body.replace(', "on_error": "item"', ""))
    assert refused.status_code == 422
    assert refused.json()["error"] == entries[1]["error"]


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
@pytest.mark.parametrize("name", BAD)
def test_so_it_has_where_items_are_classified(client: httpx.Client, path: str, name: str) -> None:
    bad, code, _ = BAD[name]
    if path == "/v1/classify" and name == "half of a character in a name":
        code = "invalid_request"  # a field that has no meaning here; what is left is no item
    field = "inputs" if path == "/classify" else "input"
    body = f'{{"{field}": ["a", {bad}, "b"], "labels": ["a", "b"], "on_error": "item"}}'
    entries = answered(client, path, body)["data"]
    assert ["error" in entry for entry in entries] == [False, True, False]
    assert entries[1]["error"]["code"] == code


def test_token_ids_among_texts_are_one_bad_item(client: httpx.Client) -> None:
    entries = answered(client, "/v1/classify", '{"input": ["a", [1, 2]], "labels": ["a", "b"], "on_error": "item"}')[
        "data"
    ]
    assert "token ids" in entries[1]["error"]["message"]
    assert post(client, "/v1/embeddings", '{"input": ["a", [1, 2]]}').json()["error"]["param"] == "input.1"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (r'{"inputs": "a", "labels": ["a", "\ud800"]}', "labels.1"),
        (r'{"inputs": "a", "labels": ["a"], "templates": ["{} \udc00"]}', "templates.0"),
        (r'{"inputs": "a", "labels": ["a"], "label\ud800": 1}', None),
        (r'{"inputs": "a", "label_set": "\ud800"}', "label_set"),
        (r'{"inputs": "a", "labels": ["a"], "model": "\ud800"}', "model"),
        ('{"inputs": "a", "labels": ["a"], "top_k": 1e400}', "top_k"),
        ('{"inputs": "a", "labels": ["a"], "threshold": 1e400}', "threshold"),
    ],
)
def test_what_is_no_item_is_named(client: httpx.Client, body: str, param: str | None) -> None:
    answer = post(client, "/classify", body)
    assert answer.status_code == (404 if param in ("model", "label_set") else 422)
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "body", ['{"inputs": NaN}', '{"inputs": "a",}', '{"inputs": "a"', '{"inputs": "\t"}', "[" * 5000]
)
def test_what_is_not_json_is_still_refused(client: httpx.Client, body: str) -> None:
    assert "not valid JSON" in post(client, "/embed", body).json()["error"]["message"]


def test_a_body_in_another_encoding_is_told_so(client: httpx.Client) -> None:
    answer = client.post("/embed", content=b'{"inputs": "caf\xe9"}', headers={"content-type": "application/json"})
    assert "not UTF-8 at byte 15" in answer.json()["error"]["message"]


class TestSimilarity:
    QUERIES, CANDIDATES = ["a cat", 5, CAT], [CAT, "a dog", {"image": "QUJD"}, "cat " * 400, "a cat"]

    def ask(self, client: httpx.Client, **request: Any) -> Any:
        response = client.post("/similarity", json=request)
        assert response.status_code == 200, response.text
        return response.json()

    def test_bad_ones_are_null_and_the_rest_is_as_without_them(self, client: httpx.Client) -> None:
        answer = self.ask(client, queries=self.QUERIES, candidates=self.CANDIDATES, top_k=2, on_error="item")
        good = self.ask(client, queries=["a cat", CAT], candidates=[CAT, "a dog", "a cat"], top_k=2)
        places = [0, 1, 4]
        for name in ("cosine", "probability"):
            rows = answer[name]
            assert rows[1] is None
            assert [row[column] for row in (rows[0], rows[2]) for column in (2, 3)] == [None] * 4
            kept = [[row[column] for column in places] for row in (rows[0], rows[2])]
            np.testing.assert_allclose(kept, good[name], atol=1e-5)
        assert answer["ranking"][1] is None
        ranked = [[entry["index"] for entry in row] for row in (answer["ranking"][0], answer["ranking"][2])]
        assert ranked == [[places[entry["index"]] for entry in row] for row in good["ranking"]]
        assert answer["usage"] == good["usage"]

    def test_errors_name_the_list_and_the_index(self, client: httpx.Client) -> None:
        errors = self.ask(client, queries=self.QUERIES, candidates=self.CANDIDATES, on_error="item")["errors"]
        told = {side: [(e["index"], e["error"]["code"], e["error"]["param"]) for e in errors[side]] for side in errors}
        assert told == {
            "queries": [(1, "invalid_request", "queries.1")],
            "candidates": [(2, "invalid_image", "candidates.2.image"), (3, "text_too_long", "candidates.3")],
        }

    def test_there_may_be_none_or_nothing_else(self, client: httpx.Client) -> None:
        fine = self.ask(client, queries="a", candidates=["b"], on_error="item")
        assert fine["errors"] == {"queries": [], "candidates": []}
        assert "errors" not in self.ask(client, queries="a", candidates=["b"])
        lost = self.ask(client, queries=["a", 1], candidates=[2, 3], top_k=1, on_error="item")
        assert (lost["cosine"], lost["ranking"]) == ([[None, None], None], [[], None])

    def test_without_it_the_first_bad_one_is_refused(self, client: httpx.Client) -> None:
        response = client.post("/similarity", json={"queries": self.QUERIES, "candidates": self.CANDIDATES})
        assert (response.status_code, response.json()["error"]["param"]) == (422, "queries.1")
