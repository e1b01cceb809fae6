"""What fails leaves nothing behind: in a service whose garbage collector is off, memory stays flat over failures."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from benchmarks.service_process import PATIENCE_S, Running, running
from tests.service.https_server import HttpsServer, answer, raw, serving

SIDE = 1000  # decoded, 3 MB: of 1,000 that stayed, 3 GB
REQUESTS = 1000
LOOK_EVERY = 100
GROWTH_BYTES = 48 * 2**20
# Connections that end are cycles, small ones. Whatever has to do with a request is looked for.
LEFT_BEHIND = re.compile(
    r"\b(ApiError|ImageError|\w*Item|EncodedImage|TokenizedText|EmbeddingResult|DecodeJob|_Computation|RequestCancelScope|EncodedFile|\w*ImageFile)="
)

Send = Callable[[httpx.Client], httpx.Response]


def cut_files() -> dict[str, bytes]:
    """Pictures whose headers are good and whose ends are missing."""
    draw = np.random.default_rng(1)
    rows = draw.integers(0, 256, (SIDE, 1, 3), np.uint8)
    picture = Image.fromarray(np.repeat(rows, SIDE, axis=1))
    files = {}
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"):
        stream = io.BytesIO()
        picture.save(stream, name, **({"compression": "tiff_lzw"} if name == "TIFF" else {}))
        files[name] = stream.getvalue()[: int(stream.tell() * 0.6)]
    return files


def embed(**body: Any) -> Send:
    content = json.dumps(body).encode()
    return lambda client: client.post("/embed", content=content, headers={"content-type": "application/json"})


def failing_requests(host: HttpsServer) -> dict[str, Send]:
    """By what fails in them."""
    files = cut_files()
    images = [{"image": base64.b64encode(file).decode()} for file in files.values()]
    noise = base64.b64encode(np.random.default_rng(2).bytes(200_000)).decode()
    white = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "white").save(white, "PNG")
    form = [("file", file) for file in files.values()]
    png = {"image": images[0]["image"]}
    urls = [{"image": f"https://localhost:{host.port}/{name}"} for name in ("missing", "cut", "broken")]

    def body(name: str) -> Send:
        return lambda client: client.post("/embed", content=files[name], headers={"content-type": "image/png"})

    return {f"body {name}": body(name) for name in files} | {
        "base64": embed(inputs=["a", *images]),
        "base64, by item": embed(inputs=["a", *images], on_error="item"),
        "the same picture twice": embed(inputs=[png, png]),
        "form": lambda client: client.post("/embed", files=form),
        "form, by item": lambda client: client.post("/embed", files=form, data={"on_error": "item"}),
        "no base64": embed(inputs=[{"image": noise + "!"}, "a"]),
        "no picture": embed(inputs=[{"image": noise}, "a"], on_error="item"),
        "wrong items": embed(inputs=[{"image": noise}, 5, "", {"image": 1}]),
        "wrong items, by item": embed(inputs=[5, "", {"image": noise + "!"}], on_error="item"),
        "long text": embed(inputs=["cat " * 2000, {"image": noise}]),
        "long text, by item": embed(inputs=["cat " * 2000, "a"], on_error="item"),
        "unknown field": embed(inputs=[{"image": noise}, "a"], unknown=1),
        "not JSON": lambda client: client.post("/embed", content=b'{"inputs": "' + noise.encode()),
        "surrogate": embed(inputs=["\ud800", {"image": noise}]),
        "URLs": embed(inputs=urls),
        "URLs, by item": embed(inputs=urls, on_error="item"),
        "engine of texts": embed(inputs=["birthday", {"image": noise}]),
        "engine of texts, by item": embed(inputs=["a birthday", "a"], on_error="item"),
        "engine of images": lambda client: client.post(
            "/embed", content=white.getvalue(), headers={"content-type": "image/png"}
        ),
        "not in time": lambda client: client.post(
            "/embed", json={"inputs": ["a", *images]}, headers={"x-request-timeout": "0.002"}
        ),
        "similarity": lambda client: client.post("/similarity", json={"queries": ["a", png], "candidates": [png]}),
        "similarity, by item": lambda client: client.post(
            "/similarity", json={"queries": ["a", png], "candidates": [png], "on_error": "item"}
        ),
        "labels": lambda client: client.post("/classify", json={"inputs": [png], "labels": ["a", "cat " * 500]}),
        "classify": lambda client: client.post("/classify", json={"inputs": [png], "labels": ["a", "b"]}),
        "label set": lambda client: client.put("/label-sets/x", json={"labels": ["a", "cat " * 500]}),
        "embeddings": lambda client: client.post("/v1/embeddings", json={"input": ["a", png]}),
        "rerank": lambda client: client.post("/v1/rerank", json={"query": "a", "documents": ["b", png]}),
    }


@pytest.fixture(scope="module")
def host() -> Iterator[HttpsServer]:
    with serving("localhost") as server:
        server.answers["/missing"] = answer(404)
        server.answers["/cut"] = answer(200, cut_files()["JPEG"])
        server.answers["/broken"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        yield server


@pytest.fixture(scope="module")
def service(host: HttpsServer, bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"url_hosts": f"localhost:{host.port}", "url_networks": "127.0.0.0/8, ::1/128", "cache_bytes": "0"}
    folder, module = tmp_path_factory.mktemp("uncollected"), "tests.service.uncollected_service"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", host.ca_file)
        with running(folder, bundle_path, module=module, **settings) as service:
            yield service


def collected(service: Running) -> str:
    """Of what kinds the garbage is that has gathered."""
    before = service.log().count("garbage:")
    service.process.send_signal(signal.SIGUSR1)
    ends = time.monotonic() + PATIENCE_S
    while service.log().count("garbage:") == before:
        assert time.monotonic() < ends
        time.sleep(0.05)
    return service.log().rpartition("garbage:")[2]


def idle(service: Running) -> None:
    """Until nothing is at work any more, also of those that were not in time."""
    ends = time.monotonic() + PATIENCE_S
    while service.metric("sightword_queue_items"):
        assert time.monotonic() < ends
        time.sleep(0.02)
    time.sleep(0.2)  # pictures that nobody waits for are decoded to the end


def test_failures_leave_nothing_behind(service: Running, host: HttpsServer) -> None:
    process, requests = psutil.Process(service.process.pid), failing_requests(host)
    refused = re.compile(r'"code":"\w+"')
    with httpx.Client(base_url=service.url, timeout=60) as client:
        for name, send in requests.items():  # what is made once only is made now
            for _ in range(3):
                assert refused.search(send(client).text), name
        idle(service)
        collected(service)
        before = process.memory_info().rss
        kinds = list(requests.values())
        for number in range(REQUESTS):
            kinds[number % len(kinds)](client)
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                idle(service)
                assert process.memory_info().rss - before < GROWTH_BYTES, number
    assert LEFT_BEHIND.findall(collected(service)) == []
