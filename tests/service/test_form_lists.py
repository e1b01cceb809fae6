"""Labels and templates in forms and queries: what is understood, what the answer says of it, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from benchmarks.service_process import Running
from tests.service import pictures

CAT = pictures.read("cat")
UNDERSTOOD: list[tuple[Sequence[str], list[str], str]] = [
    (["cat,dog"], ["cat", "dog"], "commas; count=2"),
    ([" cat , dog "], ["cat", "dog"], "commas; count=2"),
    (["cat,dog,"], ["cat", "dog"], "commas; count=2; empty=1"),
    (["cat"], ["cat"], "single; count=1"),
    (["cat", "dog"], ["cat", "dog"], "repeated; count=2"),
    (["cat,dog", "car"], ["cat", "dog", "car"], "repeated, commas; count=3"),
    (['["cat","dog"]', "car"], ["cat", "dog", "car"], "repeated, json; count=3"),
    (['["cat","dog"]'], ["cat", "dog"], "json; count=2"),
    (['\ufeff [\r\n "red, green",\r\n "caf\\u00e9"\r\n]\r\n'], ["red, green", "café"], "json; count=2"),
    (['["[sic]", "{}", "\\"so\\""]'], ["[sic]", "{}", '"so"'], "json; count=3"),
    (["cat\ndog\n"], ["cat", "dog"], "lines; count=2"),
    (["cat\r\ndog\r\n"], ["cat", "dog"], "lines; count=2"),
    (["\ufeffcat\rdog"], ["cat", "dog"], "lines; count=2"),
    (["cat\r\n\r\n \r\ndog"], ["cat", "dog"], "lines; count=2; empty=2"),
    (["cat,\r\ndog,,\r\n"], ["cat", "dog"], "lines; count=2; empty=3"),
    (['"red, green",blue'], ["red, green", "blue"], "commas; count=2"),
    (['"red, green"\r\n"a ""so"" called"\r\nblue'], ["red, green", 'a "so" called', "blue"], "lines; count=3"),
    (['cat, "red, green"'], ["cat", "red, green"], "commas; count=2"),
    (['"red, green"'], ["red, green"], "single; count=1"),
    (['5" pipe,{cat}'], ['5" pipe', "{cat}"], "commas; count=2"),
    (["a; b,c"], ["a; b", "c"], "commas; count=2"),
    (['["a; b"]'], ["a; b"], "json; count=1"),
]
REFUSED: list[tuple[Sequence[str], str, str]] = [
    (['["cat","dog"'], "labels", "not valid JSON"),
    (["['cat', 'dog']"], "labels", "not valid JSON"),
    (["[cat, dog]"], "labels", "not valid JSON"),
    (["[sic] cat"], "labels", "not valid JSON"),
    (['["cat"] and dog'], "labels", "not valid JSON"),
    (['{"cat": 1}'], "labels", "JSON object"),
    (['{"cat", "dog"}'], "labels", "not valid JSON"),
    (['["cat", 5]'], "labels.1", "a number"),
    (['[["cat"], null]'], "labels.0", "a list"),
    (["[null]"], "labels.0", "null"),
    (["[true]"], "labels.0", "a boolean"),
    (["[]"], "labels", "at least 1"),
    (["[" * 5000], "labels", "not valid JSON"),
    ([""], "labels.0", "empty"),
    (["\ufeff"], "labels.0", "empty"),
    ([" ,, "], "labels.0", "empty"),
    (["cat", ""], "labels.1", "empty"),
    (["cat,,dog"], "labels.1", "empty"),
    (["cat,dog,cat"], "labels.2", "twice"),
    (["cat\r\ndog\r\ncat"], "labels.2", "twice"),
    (["cat, dog\r\ncar"], "labels", "both lines and commas"),
    (["tench, Tinca tinca\ngoldfish, Carassius auratus"], "labels", "double quotes"),
    (['"cat,dog'], "labels", "Double quotes"),
    (['"cat" dog'], "labels", "Double quotes"),
    (["cat;dog"], "labels", "';'"),
    (["cat\tdog"], "labels", r"'\t'"),
    (["a" * 200_000], "labels", "field larger"),
]


def asked(client: httpx.Client, form: dict[str, Any]) -> httpx.Response:
    return client.post("/classify", files={"file": ("cat.png", CAT)}, data=form)


def asked_in_query(client: httpx.Client, labels: Sequence[str]) -> httpx.Response:
    query = "&".join(f"labels={quote(text)}" for text in labels)
    return client.post(f"/classify?{query}", content=CAT, headers={"content-type": "image/png"})


def labels_of(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {each["label"] for each in answer.json()["data"][0]["predictions"]}


@pytest.mark.parametrize(("texts", "labels", "read_as"), UNDERSTOOD)
def test_labels_are_understood(client: httpx.Client, texts: Sequence[str], labels: list[str], read_as: str) -> None:
    for answer in (asked(client, {"labels": texts}), asked_in_query(client, texts)):
        assert labels_of(answer) == set(labels)
        assert answer.headers["x-labels-read-as"] == read_as
    by_json = {"inputs": {"image": pictures.as_base64("cat")}, "labels": labels}
    expected = client.post("/classify", json=by_json)
    assert answer.json() == expected.json()
    assert "x-labels-read-as" not in expected.headers


@pytest.mark.parametrize(("texts", "param", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_unclear_is_refused(client: httpx.Client, texts: Sequence[str], param: str, reason: str) -> None:
    answers = [asked(client, {"labels": texts})]
    if sum(map(len, texts)) < 10_000:  # a query has no room for more
        answers.append(asked_in_query(client, texts))
    for answer in answers:
        assert answer.status_code == 422, answer.text
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("invalid_request", param)
        assert reason in error["message"]


def test_a_refusal_after_reading_says_how_it_was_read(client: httpx.Client) -> None:
    assert asked(client, {"labels": "cat, dog, cat"}).headers["x-labels-read-as"] == "commas; count=3"


@pytest.mark.parametrize(
    ("texts", "templates", "read_as"),
    [
        (["a {}.", "some {}, there"], ["a {}.", "some {}, there"], "repeated; count=2"),
        (["a {}, there.\r\n{} here\r\n\r\n"], ["a {}, there.", "{} here"], "lines; count=2"),
        (["\ufeffa {}\n\nthe {}"], ["a {}", "the {}"], "lines; count=2; empty=1"),
        (['["[{}]", "a {}"]'], ["[{}]", "a {}"], "json; count=2"),
        (["{} alone"], ["{} alone"], "single; count=1"),
    ],
)
def test_templates_are_understood(
    client: httpx.Client, texts: Sequence[str], templates: list[str], read_as: str
) -> None:
    answer = asked(client, {"labels": "cat,dog", "templates": texts})
    body = {"inputs": {"image": pictures.as_base64("cat")}, "labels": ["cat", "dog"], "templates": templates}
    assert answer.json() == client.post("/classify", json=body).json()
    assert answer.headers["x-templates-read-as"] == read_as


@pytest.mark.parametrize(
    ("texts", "param", "code"),
    [
        (["[{}]"], "templates.0", "invalid_request"),
        (['["a {}"'], "templates", "invalid_request"),
        (['{"a": "{}"}'], "templates", "invalid_request"),
        (["a {}", " "], "templates.1", "invalid_template"),
        (["a {}, b {}"], "templates.0", "invalid_template"),
    ],
)
def test_templates_are_refused(client: httpx.Client, texts: Sequence[str], param: str, code: str) -> None:
    answer = asked(client, {"labels": "cat,dog", "templates": texts})
    assert answer.status_code == 422
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("top_k", value) for value in ("many", "0", "-1", "2.5", "", "5,6", "[5]", "1e3")),
        *(("threshold", value) for value in ("0,5", "high", "nan", "inf", "2", "", "50%")),
        *(("multi_label", value) for value in ("maybe", "", "2", "[true]")),
        *(("truncate", value) for value in ("perhaps", "", "2")),
        *(("on_error", value) for value in ("skip", "", "Item", '"item"')),
        *(("top_n", "5"), ("label", "cat"), ("labels[]", "cat"), ("labels[0]", "cat"), ("inputs", "a cat")),
        *(("dimensions", "8"), ("encoding_format", "float"), ("_charset_", "utf-8")),
    ],
)
def test_options_of_a_wrong_kind_are_named(client: httpx.Client, field: str, value: str) -> None:
    for answer in (
        asked(client, {"labels": "cat,dog", field: value}),
        client.post(
            "/classify", params={"labels": "cat,dog", field: value}, content=CAT, headers={"content-type": "image/png"}
        ),
    ):
        assert answer.status_code == 422, answer.text
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("invalid_request", field)


@pytest.mark.parametrize("field", ["dimensions", "encoding_format", "normalize", "on_error", "truncate"])
def test_options_of_embed_are_named(client: httpx.Client, field: str) -> None:
    answer = client.post("/embed", files={"text": (None, "a cat")}, data={field: "nonsense"})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == field


def test_what_embed_does_not_know_is_not_counted_but_named(client: httpx.Client) -> None:
    answer = client.post("/embed", files={"text": (None, "a cat")}, data={"labels": ["cat", "dog"]})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (422, "labels")
    assert "no such field" in error["message"]


@pytest.mark.parametrize("name", [{"model": "another"}, {"labels": None, "label_set": "nothing"}])
def test_unknown_names_are_not_found(client: httpx.Client, name: dict[str, Any]) -> None:
    form = {"labels": "cat,dog", **name}
    assert asked(client, {key: value for key, value in form.items() if value}).status_code == 404


@pytest.mark.parametrize("route", ["/classify", "/embed", "/similarity", "/v1/classify"])
def test_forms_without_parts_say_what_is_read(client: httpx.Client, route: str) -> None:
    answer = client.post(route, data={"labels": "cat,dog", "text": "a cat"})
    assert answer.status_code == 415
    assert "application/x-www-form-urlencoded" in answer.json()["error"]["message"]
    assert "multipart/form-data" in answer.json()["error"]["message"]


def test_a_query_that_is_not_utf_8_is_refused(client: httpx.Client) -> None:
    headers = {"content-type": "image/png"}
    answer = client.post("/classify?labels=caf%E9,th%E9", content=CAT, headers=headers)
    assert answer.status_code == 422
    assert "UTF-8" in answer.json()["error"]["message"]
    assert labels_of(client.post("/classify?labels=caf%C3%A9,tea", content=CAT, headers=headers)) == {"café", "tea"}


def part(name: str, content: bytes, *headers: str) -> bytes:
    head = "\r\n".join(["--x", f'Content-Disposition: form-data; name="{name}"', *headers, "", ""])
    return head.encode() + content + b"\r\n"


def sent(client: httpx.Client, *parts: bytes) -> httpx.Response:
    body = b"".join([*parts, b"--x--\r\n"])
    return client.post("/classify", content=body, headers={"content-type": "multipart/form-data; boundary=x"})


@pytest.mark.parametrize(
    ("labels", "header", "reason"),
    [
        (b"caf\xe9,tea", "Content-Type: text/plain; charset=ISO-8859-1", "iso-8859-1"),
        (b"caf\xe9,tea", "Content-Type: text/plain; charset=cp1252", "cp1252"),
        (b"caf\xe9,tea", "Content-Type: text/plain", "not UTF-8"),
        ("cat\r\ndog".encode("utf-16"), "Content-Type: text/plain", "UTF-16"),
    ],
)
def test_other_encodings_are_named(client: httpx.Client, labels: bytes, header: str, reason: str) -> None:
    error = sent(client, part("file", CAT), part("labels", labels, header)).json()["error"]
    assert error["param"] == "labels"
    assert reason in error["message"]


def test_a_text_loses_its_byte_order_mark(client: httpx.Client) -> None:
    marked = sent(client, part("text", b"\xef\xbb\xbfa cat"), part("labels", b"cat,dog"))
    assert marked.json() == sent(client, part("text", b"a cat"), part("labels", b"cat,dog")).json()


def test_a_file_without_its_at_sign(client: httpx.Client) -> None:
    answer = sent(client, part("file", b"photos/cat.jpg"), part("labels", b"cat,dog"))
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "inputs.0"
    assert "file=@" in answer.json()["error"]["message"]


def test_a_large_picture_under_another_name(client: httpx.Client) -> None:
    answer = client.post("/classify", files={"image": ("a.bmp", b"BM" + b"\xff" * 2**20)}, data={"labels": "a,b"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "image")
    assert "parts called file" in answer.json()["error"]["message"]


def test_labels_of_a_file_are_bounded(narrow_client: httpx.Client) -> None:
    for labels in ("\n".join(f"label {n}" for n in range(30)), json.dumps([str(n) for n in range(30)]), "\n,," * 10):
        answer = asked(narrow_client, {"labels": labels})
        assert answer.status_code == 422
        assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == ("too_many_inputs", "labels")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_with_a_file_of_labels(service: Running, tmp_path: Path) -> None:
    """As a spreadsheet on Windows saves one column."""
    (tmp_path / "cat.jpg").write_bytes(CAT)
    (tmp_path / "labels.csv").write_bytes('\ufeffcat\r\n"cup, full"\r\nthé\r\n'.encode())
    command = ["curl", "-sS", "-i", "-F", "file=@cat.jpg", "-F", "labels=<labels.csv", f"{service.url}/classify"]
    printed = subprocess.check_output(command, cwd=tmp_path).decode()
    assert "x-labels-read-as: lines; count=3\r\n" in printed
    data = json.loads(printed.partition("\r\n\r\n")[2])["data"]
    assert {each["label"] for each in data[0]["predictions"]} == {"cat", "cup, full", "thé"}
