"""Request bodies that nobody should send: JSON and forms, each one step or more away from a good one."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from tests.service.hostile import mutated, png

JSON = "application/json"
TINY = base64.b64encode(png(2, 2, bytes(14))).decode()
ITEM: Any = {"image": TINY}
GOOD: dict[str, Any] = {
    "/embed": {
        "inputs": ["a", {"text": "b"}, ITEM],
        "dimensions": 8,
        "encoding_format": "base64",
        "output": "tokens",
        "on_error": "item",
    },
    "/similarity": {"queries": ["a"], "candidates": [ITEM, "b"], "top_k": 1, "truncate": True},
    "/classify": {"inputs": ITEM, "labels": ["a", "b"], "templates": ["a {}"], "threshold": 0.1, "multi_label": False},
    "/v1/embeddings": {"input": ["a", {"image": TINY}], "model": "x", "encoding_format": "float", "user": "u"},
    "/v1/classify": {"input": [{"image": TINY}], "labels": ["a", "b"], "model": "x"},
    "/v1/rerank": {"query": "a", "documents": ["a", {"image": TINY}], "top_n": 1, "return_documents": True},
    "/v1/embed": {"texts": ["a", "b"], "model": "x", "input_type": "search_query", "truncate": "NONE"},
    "/v2/embed": {
        "inputs": [{"content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": TINY}}]}],
        "embedding_types": ["float", "int8"],
        "output_dimension": 8,
    },
    "/v2/rerank": {"query": "a", "documents": ["a", "b"], "top_n": 1, "max_tokens_per_doc": 9},
    "/v1/multimodalembeddings": {
        "inputs": [{"content": [{"type": "text", "text": "a"}, {"type": "image_base64", "image_base64": TINY}]}],
        "truncation": True,
    },
    "/vectorize": {"texts": ["a"], "images": [TINY]},
    "/api/embed": {"model": "x", "input": ["a", "b"], "keep_alive": "5m", "options": {}},
    "/api/embeddings": {"model": "x", "prompt": "a"},
    "/tei": {"inputs": "a", "truncate": True, "truncation_direction": "left"},
    "/tei/embed": {"inputs": ["a", f"data:image/png;base64,{TINY}"], "normalize": True, "prompt_name": None},
    "/tei/rerank": {"query": "a", "texts": ["a", "b"], "return_text": True, "raw_scores": False},
    "/embeddings": {"content": [{"prompt_string": "<__media__>\n", "multimodal_data": [TINY]}, "a"]},
    "/rerank": {"query": "a", "documents": ["a", {"image": TINY}], "top_n": 1, "return_documents": True},
    "/clip/embed_image": {"image": [{"type": "base64", "value": TINY}], "clip_version_id": None},
    "/clip/embed_text": {"text": ["a", "b"], "api_key": "x"},
    "/clip/compare": {"subject": {"type": "base64", "value": TINY}, "prompt": {"one": "a", "two": "b"}},
    "/models/{id}": {"inputs": TINY, "parameters": {"candidate_labels": ["a", "b"], "hypothesis_template": "a {}"}},
    "/v2/models/{id}/infer": {
        "id": "1",
        "inputs": [
            {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]},
            {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [[TINY]], "parameters": {}},
        ],
        "outputs": [{"name": "embedding", "parameters": {"binary_data": False}}],
        "parameters": {"binary_data_output": True, "truncate": True},
    },
    "/invocations": {"instances": ["a", ITEM], "parameters": {"labels": ["a", "b"], "top_k": 1}},
    "/label-sets/{name}": {"labels": ["a", "b"], "templates": ["a {}"]},
}
DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
MANY = 20_000
TEXTS = {
    "words": "cat " * 2500,
    "one word": "a" * 10_000,
    "controls": "".join(chr(1 + index % 31) for index in range(10_000)),
    "nulls": "\0" * 10_000,
    "right to left": "\u202eשלום\u202c " * 1400,
    "zalgo": "Z" + "".join(chr(0x300 + index * 7 % 0x6F) for index in range(9_999)),
    "combining out of order": "a" + "\u0345\u0301\u0327" * 3333,
    "tibetan": "\u0f71\u0f72\u0f74" * 3333,
    "hangul": "\u1100\u1161\u11a8" * 3333,
    "families": "\U0001f469\u200d\U0001f469\u200d\U0001f467 " * 1600,
    "flags": "\U0001f1e9\U0001f1ea" * 5000,
    "entities in entities": "&" + "amp;" * 2499,
    "entities": "&lt;" * 2500,
    "ampersands": "&" * 10_000,
    "endless number": "&#" + "9" * 9_998,
    "mojibake": "\u00c3\u00a2\u00e2\u201a\u00ac\u00e2\u201e\u00a2" * 1100,
    "mojibake of spaces": "\x93\u00c2 \xc3\xa0" * 2000,
    "latin-1": "".join(chr(0x80 + index * 37 % 0x80) for index in range(10_000)),
    "dotted capital i": "\u0130" * 10_000,
    "ligatures": "\ufdfa" * 10_000,
    "private": "\U0010ffff" * 10_000,
    "lines": "\u00c3\u00a9\n" * 3333,
    "control tokens": "<|startoftext|><|endoftext|>" * 350,
}
NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**64,
    -(2**63),
    1e308,
    5e-324,
    -0.0,
    0.5,
    "",
    " ",
    "\0",
    "x" * 5000,
    "\ufeff",
    "\u2028",
    "{}",
    "{}{}",
    "%s%n{0.__class__}",
    "../../etc/passwd",
    "http://127.0.0.1:1/",
    "file:///dev/zero",
    "data:image/png;base64,",
    "data:,",
    "data:image/png;base64;base64," + TINY,
    TINY[:-1],
    TINY[:-3],
    TINY + "=",
    "====",
    TINY[:20] + "\n" + TINY[20:],
    TINY.replace("/", "_"),
    "é",
    [],
    {},
    [[]],
    [None],
    [{}],
    [[["a"]]],
    {"": ""},
    {"text": "a", "image": TINY},
    {"image": {"image": TINY}},
    {"text": ["a"]},
    {"image": 5},
    {"url": "a"},
    DEEP,
    ["a"] * 600,
    [0] * MANY,
    ["a"] * MANY,
    [ITEM] * 40,
    {str(index): index for index in range(MANY)},
    [1, 2, 3],
    *TEXTS.values(),
]
NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "0." + "1" * 5000,
    "1E",
    "01",
    "+1",
    "0x10",
    ".5",
]
GARBAGE = [
    b"",
    b" ",
    b"\0",
    b"null",
    b"5",
    b'"a"',
    b"[]",
    b"{",
    b"}",
    b'{"inputs"',
    b'{"inputs":}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    '{"inputs": "a"}'.encode("utf-16"),
    '{"inputs": "a"}'.encode("utf-32"),
    b'{"inputs": "\xff"}',
    b'{"inputs": "\xed\xa0\x80"}',
    b'{"inputs": "\\ud800"}',
    b'{"inputs": "\\udc00\\ud800"}',
    b'{"inputs": "\\u12"}',
    b'{"inputs": "a\nb"}',
    b'{"inputs": "\x01"}',
    b'{"inputs": "a", "inputs": "b"}',
    b"{'inputs': 'a'}",
    b'{"inputs": "a",}',
    b'{"inputs": "a"} x',
    b'{"inputs": "a"}{}',
    b"/**/{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"inputs":' + b"[" * 1020 + b"]" * 1020 + b"}",
    b"<xml/>",
    b"inputs=a&labels=b",
    b'{"inputs": ["' + b"\\n" * 50_000 + b'"]}',
    b'{"inputs": ' + b"[]," * 400_000 + b"0}",
    b'{"inputs": "a"' + b',"x":1' * 100_000 + b"}",
    b"{" + b",".join(b'"%d":0' % index for index in range(MANY)) + b"}",
]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in below for place in _places(each, (*path, key)))]


def _change(random: random.Random, value: Any) -> None:
    *above, last = random.choice(_places(value)[1:])
    for key in above:
        value = value[key]
    match random.randrange(5):
        case 0:
            del value[last]
        case 1 if isinstance(value, dict):
            value[random.choice(("extra", "", "\0", "image", "x" * 300))] = random.choice(NASTY)
        case 2 if isinstance(value, list):
            value.insert(0, random.choice(NASTY))
        case _:
            value[last] = random.choice(NASTY)


def bad_json(random: random.Random, path: str) -> bytes:
    if random.random() < 0.05:
        return random.choice(GARBAGE)
    value = json.loads(json.dumps(GOOD[path]))
    for _ in range(random.choice((1, 1, 2, 3))):
        if len(_places(value)) > 1 and len(_places(value)) < 1000:
            _change(random, value)
    text = json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = random.random()
    if kind < 0.1:
        text = text.replace(b"1", random.choice(NUMBERS).encode(), 1)
    elif kind < 0.3:
        spoilt = bytearray(text[:5000])
        for _ in range(random.choice((1, 3))):
            spoilt[random.randrange(len(spoilt))] = random.choice(b'"{}[]:,\\\0\xff 0a')
        text = bytes(spoilt) if random.random() < 0.8 else bytes(spoilt[: random.randrange(len(spoilt))])
    return text


HEADERS = [
    'Content-Disposition: form-data; name="file"; filename="a.jpg"',
    'Content-Disposition: form-data; name="text"',
    'Content-Disposition: form-data; name="labels"',
    'Content-Disposition: form-data; name="on_error"',
    "Content-Disposition: form-data; name=top_k",
    'content-disposition: form-data; name="dimensions"',
    "Content-Disposition: form-data",
    "Content-Disposition: form-data; name=",
    "Content-Disposition: ; name=file",
    'Content-Disposition: form-data; name="\xff\xfe"',
    "Content-Disposition: form-data; name*=utf-8''text",
    "Content-Type: text/plain; charset=utf-7",
    "Content-Type: multipart/mixed; boundary=b",
    "Content-Type: image/png",
    "Content-Transfer-Encoding: quoted-printable",
    "Content-Length: 99999999999",
    "x: " + "y" * 5000,
    ": ",
    "nonsense",
    "",
]
VALUES = [
    b"",
    b"a",
    b"a cat",
    b"item",
    b"8",
    b"a,b",
    b",",
    b"\xff",
    b"\r\n",
    b"--b",
    b"\r\n--bx",
    b"\r\n--b",
    b"\0" * 100,
]
BREAKS = ["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ""]


def bad_form(random: random.Random, pictures: list[bytes]) -> tuple[str, bytes]:
    """Its media type, and the body."""
    body = random.choice([b"", b"", b"preamble\r\n", b"\r\n"])
    for _ in range(random.choice((0, 1, 2, 3, 30))):
        head = [random.choice(HEADERS[:6]), *random.choices(HEADERS, k=random.choice((0, 0, 1, 2)))]
        value = mutated(random, pictures) if random.random() < 0.5 else random.choice(VALUES)
        lines = random.choice(BREAKS).join(["--b", *head, "", ""]).encode("latin-1")
        body += lines + value + b"\r\n"
    body += random.choice([b"--b--\r\n", b"--b--\r\n", b"--b--", b"--b", b"", b"--c--\r\n", b"--b--\r\nepilogue"])
    for _ in range(random.choice((0, 0, 0, 1, 5))):
        at = random.randrange(len(body) + 1)
        body = body[:at] + random.randbytes(1) + body[at + 1 :]
    boundary = random.choice(["b"] * 12 + ['"b"', "", "c", "b" * 300, "b; charset=utf-16", "\xe9"])
    return "multipart/form-data; boundary=" + boundary, body


def good_form(files: list[bytes]) -> tuple[str, bytes]:
    """All files in one form, judged one by one."""
    head = '--batch-5f1c\r\nContent-Disposition: form-data; name="{}"\r\n\r\n'
    parts = [head.format("file").encode() + each + b"\r\n" for each in files]
    fields = "".join(head.format(name) + value + "\r\n" for name, value in (("on_error", "item"), ("dimensions", "2")))
    return "multipart/form-data; boundary=batch-5f1c", b"".join(parts) + fields.encode() + b"--batch-5f1c--\r\n"
