"""Forms with files: what real clients send, and what nobody should."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import Running
from tests.service import pictures
from tests.service.conftest import checking_client

Fields = list[tuple[str, Any]]
CAT, ROCKET = pictures.read("cat"), pictures.read("rocket")
BOUNDARY = "x5f1"


def part(content: bytes, *headers: str) -> bytes:
    return "\r\n".join([f"--{BOUNDARY}", *headers, "", ""]).encode("latin-1") + content + b"\r\n"


def named(name: str, content: bytes, *headers: str) -> bytes:
    return part(content, f'Content-Disposition: form-data; name="{name}"', *headers)


END = f"--{BOUNDARY}--\r\n".encode()


def send(client: httpx.Client, body: bytes, path: str = "/embed", boundary: str = BOUNDARY) -> httpx.Response:
    return client.post(
        path, content=body, headers={"content-type": f"multipart/form-data; boundary={boundary}; charset=UTF-8"}
    )


def refusal(answer: httpx.Response, status: int = 422) -> tuple[str, str | None, str]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    return error["code"], error["param"], error["message"]


@pytest.fixture(scope="module")
def vectors(service: Running) -> list[Any]:
    """Of CAT, "a cat" and ROCKET, asked for by JSON."""
    images = [{"image": pictures.as_base64(name)} for name in ("cat", "rocket")]
    with checking_client(service) as client:
        data = client.post("/embed", json={"inputs": [images[0], "a cat", images[1]]}).json()["data"]
    return [each["embedding"] for each in data]


def test_files_and_texts_in_their_order(client: httpx.Client, vectors: list[Any]) -> None:
    files: Fields = [
        ("file", ("cat.png", CAT, "image/png")),
        ("text", (None, "a cat")),
        ("file", ("Ü.jpg", ROCKET, "application/octet-stream")),
    ]
    answer = client.post("/embed", files=files)
    assert answer.status_code == 200, answer.text
    assert [(each["index"], each["embedding"]) for each in answer.json()["data"]] == list(enumerate(vectors))
    assert answer.json()["usage"]["images"] == 2


def test_a_file_without_a_name_and_a_text_with_one(client: httpx.Client, vectors: list[Any]) -> None:
    body = named("file", CAT) + part(b"a cat", 'content-disposition:form-data; filename="a.jpg"; name=text') + END
    data = send(client, body).json()["data"]
    assert [each["embedding"] for each in data] == vectors[:2]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(service: Running, tmp_path: Path, vectors: list[Any]) -> None:
    (tmp_path / "cat.jpg").write_bytes(CAT)
    form = ["-F", "file=@cat.jpg", "-F", "text=a cat", "-F", "dimensions=4", "-F", "normalize=false"]
    command = ["curl", "-sS", "--fail-with-body", *form, f"{service.url}/embed"]
    answer = httpx.Response(200, content=subprocess.check_output(command, cwd=tmp_path)).json()
    assert [each["embedding"] for each in answer["data"]] == [vector[:4] for vector in vectors[:2]]


def test_a_browsers_form(client: httpx.Client, vectors: list[Any]) -> None:
    """As Firefox writes FormData: long boundary, CRLF, and an empty entry for the file that was not chosen."""
    boundary = "----geckoformboundary2f59e7a8d1c4b3f6a1b2c3d4e5f60718"
    body = (
        part(CAT, 'Content-Disposition: form-data; name="file"; filename="my \\"cat\\".png"', "Content-Type: image/png")
        + part(
            b"", 'Content-Disposition: form-data; name="file"; filename=""', "Content-Type: application/octet-stream"
        )
        + named("text", b"a cat")
        + END
    )
    answer = send(client, body.replace(BOUNDARY.encode(), boundary.encode()), boundary=boundary)
    assert [each["embedding"] for each in answer.json()["data"]] == vectors[:2]


def test_options_are_fields(client: httpx.Client, vectors: list[Any]) -> None:
    data = {"dimensions": "8", "normalize": "false", "encoding_format": "float", "truncate": "1"}
    answer = client.post("/embed", data=data, files={"text": (None, "a cat " * 100)})
    assert len(answer.json()["data"][0]["embedding"]) == 8
    assert answer.json()["data"][0]["truncated"]


@pytest.mark.parametrize("labels", [["cat, rocket"], ["cat", "rocket"]])
def test_classify(client: httpx.Client, labels: list[str]) -> None:
    form = {"labels": labels, "templates": ["a {}.", "some {}, there"], "top_k": "1"}
    files: Fields = [("file", CAT), ("file", ROCKET), ("text", (None, "a rocket"))]
    answer = client.post("/classify", data=form, files=files)
    expected = client.post(
        "/classify",
        json={
            "inputs": [*({"image": pictures.as_base64(name)} for name in ("cat", "rocket")), "a rocket"],
            "labels": ["cat", "rocket"],
            "templates": form["templates"],
            "top_k": 1,
        },
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == expected.json()


def test_npy(client: httpx.Client) -> None:
    answer = client.post("/embed", files={"file": CAT}, headers={"accept": "application/x-npy"})
    assert answer.content.startswith(b"\x93NUMPY")


def test_bad_items_keep_their_places(client: httpx.Client, vectors: list[Any]) -> None:
    body = (
        named("file", b"not a picture", "Content-Type: image/png")
        + named("text", b"a cat")
        + named("text", b"\xff")
        + named("text", b"")
        + named("file", b"")
        + named("text", b"caf\xe9", "Content-Type: text/plain; charset=ISO-8859-1")
        + named("file", CAT[:1000])
    )
    answer = send(client, body + named("on_error", b"item") + END)
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data[1]["embedding"] == vectors[1]
    codes = [(each["error"]["code"], each["error"]["param"]) for each in data if "error" in each]
    kinds = ["invalid_image", None, "invalid_request", "invalid_request", "invalid_request", "invalid_request"]
    expected = [*kinds, "invalid_image"]
    assert codes == [(code, f"inputs.{index}") for index, code in enumerate(expected) if code]
    assert refusal(send(client, named("text", b"a") + named("file", b"") + END))[:2] == ("invalid_request", "inputs.1")


MALFORMED: list[tuple[bytes, str | None, str]] = [
    (b"", None, "closing boundary"),
    (b"\r\n" * 1000, None, "closing boundary"),
    (named("text", b"a"), None, "closing boundary"),
    (named("text", b"a") + END[:-4], None, "closing boundary"),
    (named("file", CAT)[:5000], None, "closing boundary"),
    (END, "inputs", "nothing to work on"),
    (named("model", b"x") + END, "inputs", "nothing to work on"),
    (part(b"a") + END, None, "name"),
    (part(b"a", "Content-Disposition: form-data") + END, None, "name"),
    (part(b"a", "Content-Disposition: attachment; name=text") + END, None, "name"),
    (part(b"a", "Content-Disposition: form-data; name*=utf-8''text") + END, None, "name"),
    (part(b"a", "nonsense") + END, None, "not valid multipart"),
    (part(b"a", ": x") + END, None, "not valid multipart"),
    (part(b"a", *["x: y"] * 50) + END, None, "not valid multipart"),
    (part(b"a", "x: " + "y" * 10_000) + END, None, "not valid multipart"),
    (part(b"a", "y" * 10_000 + ": x") + END, None, "not valid multipart"),
    (b"--another\r\n\r\n--another--\r\n", None, "not valid multipart"),
    (b'{"inputs": "a"}', None, "not valid multipart"),
    (named("file", b"", "Content-Type: multipart/mixed; boundary=y") + END, "file", "multipart of its own"),
    (named("file", b"aGk=", "Content-Transfer-Encoding: base64") + END, "file", "as they are"),
    (named("text", b"a") + named("nothing", b"b") + END, "nothing", "no such field"),
    (named("text", b"a") + named("inputs", b"b") + END, "inputs", "no such field"),
    (named("text", b"a") + named("x" * 4000, b"b") + END, "x" * 200, "no such field"),
    (named("text", b"a") + named("model", b"\xff") + END, "model", "UTF-8"),
    (named("text", b"a") + named("truncate", b"perhaps") + END, "truncate", "boolean"),
    (named("text", b"a") + named("dimensions", b"1" * 5000) + END, "dimensions", "integer"),
    (named("text", b"a") + named("dimensions", b"1" * 2**21) + END, "dimensions", "bytes"),
    (named("text", b"a") + named("dimensions", b"8") * 2 + END, "dimensions", "more than once"),
]


@pytest.mark.parametrize(("body", "param", "said"), MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_malformed_is_named(client: httpx.Client, body: bytes, param: str | None, said: str) -> None:
    code, where, message = refusal(send(client, body))
    assert (code, where) == ("invalid_request", param), message
    assert said in message


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "Multipart/Form-Data; boundary=", "multipart/form-data;boundary=" + "b" * 300],
)
def test_a_boundary_is_needed(client: httpx.Client, content_type: str) -> None:
    answer = client.post("/embed", content=named("text", b"a") + END, headers={"content-type": content_type})
    assert refusal(answer)[:2] == ("invalid_request", None)


def test_options_are_not_in_the_query(client: httpx.Client) -> None:
    code, param, message = refusal(send(client, named("text", b"a") + END, "/embed?dimensions=8"))
    assert (code, param) == ("invalid_request", None)
    assert "fields of the body" in message


@pytest.mark.parametrize(
    "media_type",
    [
        "APPLICATION/JSON",
        "Application/Json; charset=UTF-8",
        "application/vnd.mine+json",
        'application/json; x="a;b"',
        "",
    ],
)
def test_media_types_of_json(client: httpx.Client, media_type: str) -> None:
    answer = client.post("/embed", content=b'{"inputs": "caf\xc3\xa9"}', headers={"content-type": media_type})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("coding", ["utf-16", "utf-32", "latin-1", "utf-8-sig"])
def test_json_is_utf_8_whatever_its_header_says(client: httpx.Client, coding: str) -> None:
    body = '{"inputs": "café"}'.encode(coding)
    answer = client.post("/embed", content=body, headers={"content-type": f"application/json; charset={coding}"})
    code, param, message = refusal(answer)
    assert (code, param) == ("invalid_request", None)
    assert "JSON" in message


@pytest.mark.parametrize("media_type", ["IMAGE/PNG", "image/heic", "image/x-whatever; q=1", "image/"])
def test_media_types_of_images(client: httpx.Client, vectors: list[Any], media_type: str) -> None:
    answer = client.post("/embed", content=CAT, headers={"content-type": media_type})
    assert answer.json()["data"][0]["embedding"] == vectors[0]


def test_where_files_are_not_read(client: httpx.Client) -> None:
    answer = send(client, named("text", b"a") + END, "/similarity")
    assert refusal(answer, 415)[0] == "unsupported_media_type"


def test_counts_are_limited(narrow_client: httpx.Client) -> None:
    for body, param in [
        (named("text", b"a") * 33, "inputs"),
        (b"\r\n--" + BOUNDARY.encode() + b"y" * 3 + b"\r\n" + named("text", b"a") * 900, "inputs"),
        (named("text", b"\r\n--x5f1y" * 900), "inputs"),
        (named("text", b"a") + named("labels", b"," * 20), "labels"),
        (named("text", b"a") + named("labels", b"a,b") * 11, "labels"),
        (named("text", b"a") + named("labels", b"a") + named("templates", b"{}") * 21, "templates"),
    ]:
        assert refusal(send(narrow_client, body + END, "/classify"))[:2] == ("too_many_inputs", param)


def test_a_boundary_that_is_everywhere(narrow_client: httpx.Client) -> None:
    """Each of these looks like the end of a part at first, which costs the parser time."""
    body = b"--a\r\nContent-Disposition: form-data; name=file\r\n\r\n" + b"\r\n--ab" * 60_000 + b"\r\n--a--\r\n"
    assert refusal(send(narrow_client, body, boundary="a"))[:2] == ("too_many_inputs", "inputs")


def test_the_body_limit_holds(narrow_client: httpx.Client) -> None:
    answer = narrow_client.post("/embed", files={"file": b"a" * 400_000})
    assert refusal(answer, 413)[0] == "body_too_large"
