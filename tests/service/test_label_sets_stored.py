"""Label sets as files: through a restart, beside files that are none, and when they cannot be written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from service.settings import MAX_LABEL_SETS
from tests.service.conftest import checking_client
from tests.service.test_label_sets import error_of, put

GOOD = {
    "name": "by-hand",
    "labels": ["cat", "dog"],
    "templates": ["a {}"],
    "template_set": None,
    "truncate": False,
    "updated": "2026-01-01T00:00:00+00:00",
}
FOREIGN: dict[str, bytes] = {
    "corrupt.json": b'{"name": "corrupt", "labels": ["cat"',
    "empty.json": b"",
    "binary.json": bytes(range(256)),
    "number.json": b"7",
    "other-name.json": json.dumps(GOOD).encode(),
    "bad-template.json": json.dumps({**GOOD, "name": "bad-template", "templates": ["none"]}).encode(),
    "no-labels.json": json.dumps({**GOOD, "name": "no-labels", "labels": []}).encode(),
    "README.txt": b"not one of ours",
    ".by-hand.0.partial": b"left by a crash",
    "not a name.json": json.dumps(GOOD).encode(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "label-sets"
    folder.mkdir()
    (folder / "by-hand.json").write_text(json.dumps(GOOD))
    (folder / "a-folder.json").mkdir()
    for name, content in FOREIGN.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def before(bundle_path: Path, folder: Path) -> dict[str, Any]:
    """What a first process stored and answered before it was killed."""
    body = {"labels": ["cat", "dog", "{}"], "templates": ["a {}", "{} é"], "truncate": True}
    with running(folder.parent, bundle_path, label_sets=str(folder)) as first, checking_client(first) as client:
        put(client, "kept", **body)
        put(client, "gone", **body)
        client.delete("/label-sets/gone")
        answer = client.post("/classify", json={"inputs": "a cat", "label_set": "kept"}).json()
        label_set = client.get("/label-sets/kept").json()
        first.process.kill()
        first.process.wait()
    return {"answer": answer, "label_set": label_set}


@pytest.fixture(scope="module")
def stored(bundle_path: Path, folder: Path, before: dict[str, Any]) -> Iterator[Running]:
    with running(folder.parent, bundle_path, label_sets=str(folder)) as service:
        yield service


@pytest.fixture
def client(stored: Running) -> Iterator[httpx.Client]:
    with checking_client(stored) as client:
        yield client


def test_what_is_stored_outlives_the_process(client: httpx.Client, folder: Path, before: dict[str, Any]) -> None:
    assert client.get("/label-sets/kept").json() == before["label_set"]
    assert client.get("/label-sets/gone").status_code == 404
    answer = client.post("/classify", json={"inputs": "a cat", "label_set": "kept"}).json()
    assert answer["usage"] == before["answer"]["usage"]
    [one], [other] = answer["data"], before["answer"]["data"]
    assert [each["label"] for each in one["predictions"]] == [each["label"] for each in other["predictions"]]
    assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    assert {path.name for path in folder.iterdir()} == {"by-hand.json", "kept.json", "a-folder.json", *FOREIGN}


def test_only_label_sets_are_served(client: httpx.Client, stored: Running, folder: Path) -> None:
    assert [each["name"] for each in client.get("/label-sets").json()["label_sets"]] == ["by-hand", "kept"]
    for name in ("corrupt", "a-folder", "bad-template", "other-name"):
        assert error_of(client.get(f"/label-sets/{name}")) == (404, "label_set_not_found", "name")
        answer = client.post("/classify", json={"inputs": "a", "label_set": name})
        assert error_of(answer) == (404, "label_set_not_found", "label_set")
        assert stored.log().count(f"{name}.json is not a label set") == 1
    assert client.post("/classify", json={"inputs": "a", "label_set": "by-hand"}).status_code == 200
    put(client, "empty", labels=["cat"])
    assert json.loads((folder / "empty.json").read_text())["labels"] == ["cat"]
    assert (folder / "README.txt").exists()


def test_a_file_that_changes_is_read_again(client: httpx.Client, folder: Path) -> None:
    put(client, "changing", labels=["cat"])
    file = folder / "changing.json"
    changed = {**json.loads(file.read_text()), "labels": ["dog", "rabbit"]}
    file.write_text(json.dumps(changed))
    _wait_for(client, "changing", ["dog", "rabbit"])
    file.unlink()
    _wait_for(client, "changing", None)


def test_there_is_a_most(client: httpx.Client, folder: Path) -> None:
    assert client.get("/info").json()["limits"]["max_label_sets"] == MAX_LABEL_SETS
    put(client, "last", labels=["cat"])
    more = [folder / f"filler-{number}.json" for number in range(MAX_LABEL_SETS)]
    for file in more:
        file.touch()
    assert error_of(client.put("/label-sets/one-more", json={"labels": ["cat"]})) == (422, "too_many_inputs", "name")
    put(client, "last", labels=["dog"])
    for file in more:
        file.unlink()
    put(client, "one-more", labels=["cat"])


def test_a_folder_that_cannot_be_written(client: httpx.Client, folder: Path) -> None:
    put(client, "seen", labels=["cat", "dog"])
    away = folder.rename(folder.with_name("away"))
    folder.write_text("a file in the place of the folder")
    try:
        for method, url, body in (
            ("PUT", "/label-sets/seen", {"labels": ["cat"]}),
            ("DELETE", "/label-sets/seen", None),
            ("GET", "/label-sets", None),
            ("GET", "/label-sets/unseen", None),
        ):
            answer = client.request(method, url, json=body)
            assert error_of(answer) == (503, "unavailable", None)
            assert answer.headers["retry-after"]
            assert str(folder) not in answer.text
        ends = time.monotonic() + 2  # beyond the time for which what was seen is not checked
        while time.monotonic() < ends:
            assert client.post("/classify", json={"inputs": "a", "label_set": "seen"}).status_code == 200
            time.sleep(0.1)
    finally:
        folder.unlink()
        away.rename(folder)
    put(client, "seen", labels=["cat"])


def _wait_for(client: httpx.Client, name: str, labels: list[str] | None) -> None:
    ends = time.monotonic() + PATIENCE_S
    while client.get(f"/label-sets/{name}").json().get("labels") != labels:
        assert time.monotonic() < ends
        time.sleep(0.05)
