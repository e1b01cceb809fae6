"""The programs of others, unchanged, against the real service: `make test-sdks` has an environment for them.

They are not installed beside the service, which SIGHTWORD_TEST_PYTHON runs. SIGHTWORD_TEST_SDKS names the environments
that there are, and only what is in them is tested; without it, a client that is not installed is skipped.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.service_process import Running, running
from tests.sdks.clients import ADDRESS, MODEL, Client

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = os.environ.get("SIGHTWORD_TEST_SDKS", "").split()
PYTHON = os.environ.get("SIGHTWORD_TEST_PYTHON", sys.executable)
ALIASES = ",".join(f"{name}={MODEL}" for name in ("text-embedding-3-small", "embed-english-v3.0"))
LOOPBACK = ("127.0.0.1", b"127.0.0.1", "localhost")
QUIET = {  # what would ask other machines for something, or tell them
    "ANONYMIZED_TELEMETRY": "False",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MEM0_TELEMETRY": "False",
    "TELEMETRY_OPT_OUT": "True",
}
os.environ.update(QUIET)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of clients that are in the environments that are named."""

    def is_there(item: pytest.Item) -> bool:
        client = getattr(getattr(item, "cls", None), "client", None)
        return not isinstance(client, Client) or any(map(client.is_in, ENVIRONMENTS))

    if ENVIRONMENTS and (others := [item for item in items if not is_there(item)]):
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if is_there(item)]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Nothing leaves this machine: no name is resolved, and the attempt fails the test even if the client hides it."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def only_loopback(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in LOOPBACK:
            asked.append(host)
            raise socket.gaierror(f"{host} is not this machine")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", only_loopback)
    yield asked
    assert not asked


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With the defaults, a name that OpenAI's clients know, and patience: the machine may be busy with other things."""
    bundle = ROOT / "model" / "bundled" / MODEL
    with running(
        tmp_path_factory.mktemp("service"), bundle, python=PYTHON, timeout_s="300", model_aliases=ALIASES
    ) as service:
        yield service


@pytest.fixture
def vectors(service: Running) -> Callable[..., np.ndarray[Any, Any]]:
    """What /embed says of these inputs."""

    def embed(*inputs: Any, **options: Any) -> np.ndarray[Any, Any]:
        answer = httpx.post(f"{service.url}/embed", json={"inputs": list(inputs), **options}, timeout=300).json()
        return np.array([entry["embedding"] for entry in answer["data"]])

    return embed


@pytest.fixture
def here(request: pytest.FixtureRequest, service: Running, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The names that the setting of the test's client makes, run as people write it."""
    client: Client = request.cls.client
    try:
        installed = importlib.metadata.version(client.package)
    except importlib.metadata.PackageNotFoundError:
        assert not ENVIRONMENTS
        pytest.skip(f"{client.package} is not installed: make test-sdks")
    assert not ENVIRONMENTS or installed in client.versions()
    for name in ("CO_API_URL", "CO_API_KEY", "CHROMA_OPENAI_API_KEY", "CHROMA_COHERE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)  # and put back after the test, whatever the setting makes of it
    names: dict[str, Any] = {}
    exec(client.setting.replace(ADDRESS, service.url.removeprefix("http://")), names)
    return SimpleNamespace(**names)
