"""The peers that we are measured beside."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson

from benchmarks.client import request
from benchmarks.peers.peer import Peer, Protocol

_SERVING = Path(__file__).parent / "serving"
_INFINITY_CUTS_AT: Final = 20  # `max_length` of its transformers' configurations, which are made for generating text


def _post(path: str, content: Any) -> bytes:
    return request("POST", path, orjson.dumps(content), content_type="application/json")


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode("ascii")


def _script(name: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda python, model, port: [str(python), str(_SERVING / name), str(model), str(port)]


def _infinity(dtype: str) -> Callable[[Path, Path, int], list[str]]:
    def command(python: Path, model: Path, port: int) -> list[str]:
        served = ["v2", "--model-id", str(model), "--served-model-name", "clip", "--engine", "torch", "--device", "cpu"]
        # It would measure its own speed before it answers, which takes a minute and speeds nothing up.
        others = [
            "--dtype",
            dtype,
            "--no-model-warmup",
            "--log-level",
            "warning",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        return [str(python), str(_SERVING / "infinity.py"), *served, *others]

    return command


def _to_infinity(item: str, **options: str) -> bytes:
    return _post("/embeddings", {"model": "clip", "input": [item], "encoding_format": "float", **options})


_FASTAPI = Protocol(
    image=lambda jpeg: _post("/embed", {"images": [_base64(jpeg)]}),
    text=lambda text: _post("/embed", {"texts": [text]}),
    vector=lambda answer: [*answer["images"], *answer["texts"]][0],
)
_INFINITY = Protocol(
    image=lambda jpeg: _to_infinity(f"data:image/jpeg;base64,{_base64(jpeg)}", modality="image"),
    text=_to_infinity,
    vector=lambda answer: answer["data"][0]["embedding"],
)
_LITSERVE = Protocol(
    image=lambda jpeg: _post("/predict", {"image": _base64(jpeg)}),
    text=lambda text: _post("/predict", {"text": text}),
    vector=lambda answer: answer["embedding"],
)
_INFINITY_PACKAGES = ("infinity_emb", "transformers", "torch")

_ALL = (
    Peer(
        name="fastapi-transformers",
        precision="fp32",
        environment="fastapi-transformers",
        packages=("fastapi", "transformers", "torch"),
        command=_script("fastapi_transformers.py"),
        protocol=_FASTAPI,
    ),
    Peer(
        name="infinity",
        precision="fp32",
        environment="infinity",
        packages=_INFINITY_PACKAGES,
        command=_infinity("float32"),
        protocol=_INFINITY,
        text_tokens=_INFINITY_CUTS_AT,
    ),
    Peer(
        name="litserve",
        precision="fp32",
        environment="litserve",
        packages=("litserve", "transformers", "torch"),
        command=_script("litserve_clip.py"),
        protocol=_LITSERVE,
    ),
    Peer(
        name="infinity-int8",
        precision="int8",
        environment="infinity",
        packages=_INFINITY_PACKAGES,
        command=_infinity("int8"),
        protocol=_INFINITY,
        text_tokens=_INFINITY_CUTS_AT,
    ),
)
PEERS: Mapping[str, Peer] = MappingProxyType({peer.name: peer for peer in _ALL})
