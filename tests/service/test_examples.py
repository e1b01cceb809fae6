"""The examples that /docs offers: there is one for each body, and each is answered as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import running
from service.schema.examples import REQUESTS

JSON = "application/json"


@pytest.fixture(scope="module")
def service_client(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("examples")
    with (
        running(folder, bundle_path, label_sets=str(folder / "sets")) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def paths(service_client: httpx.Client) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = service_client.get("/openapi.json").json()["paths"]
    return found


def bodies(paths: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path with its parameters filled in, and the examples of the JSON that it takes."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            filled = path
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    filled = filled.replace(f"{{{parameter['name']}}}", parameter["example"])
            content = operation.get("requestBody", {}).get("content", {})
            if JSON in content:
                yield method, filled, content[JSON].get("examples", {})


def test_each_example_is_answered(service_client: httpx.Client, paths: dict[str, dict[str, Any]]) -> None:
    refused, count = [], 0
    for method, path, examples in bodies(paths):
        assert examples, f"{path} has no example"
        for name, example in examples.items():
            count += 1
            answer = service_client.request(method, path, json=example["value"])
            if answer.status_code not in (200, 201):
                refused.append(f"{path}, {name}: {answer.status_code} {answer.text}")
    assert not refused, "\n".join(refused)
    assert count > len(REQUESTS)


def test_none_is_of_a_path_that_is_not_there(paths: dict[str, dict[str, Any]]) -> None:
    assert set(REQUESTS) <= set(paths)


def test_paths_with_a_model_name_the_one_that_is_served(
    service_client: httpx.Client, paths: dict[str, dict[str, Any]]
) -> None:
    [first, *_] = service_client.get("/v1/models").json()["data"]
    [parameter] = [each for each in paths["/models/{id}"]["post"]["parameters"] if each["in"] == "path"]
    assert parameter["example"] == first["id"]
