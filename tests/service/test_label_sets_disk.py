"""Label sets on a disk that is full or read-only, and among things that are none: told, and nothing is lost."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, running
from service.classification.label_sets.file_store import MAX_ENTRIES, MAX_WARNINGS, FileStore
from service.classification.label_sets.store import MAX_DOCUMENT_BYTES, LabelSet
from service.errors import ApiError
from tests.service.conftest import checking_client
from tests.service.test_label_sets import error_of, put
from tests.service.test_label_sets_stored import GOOD


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def refused(client: httpx.Client, service: Running, reason: str, cause: str, **body: Any) -> None:
    """Storing under a new name and an old one is refused with the reason, and what there was is still there."""
    for name in ("old", "new"):
        answer = client.put(f"/label-sets/{name}", json={"labels": ["rabbit"], **body})
        assert error_of(answer) == (503, "unavailable", None)
        assert reason in answer.json()["error"]["message"]
    assert cause in service.log()
    assert client.get("/label-sets/old").json()["labels"] == ["cat", "dog"]
    assert [each["name"] for each in client.get("/label-sets").json()["label_sets"]] == ["old"]
    assert client.post("/classify", json={"inputs": "a", "label_set": "old"}).status_code == 200
    assert client.get("/label-sets/new").status_code == 404


def test_a_full_disk(bundle_path: Path, tmp_path: Path, small_disk: Path) -> None:
    folder = small_disk / "sets"
    with running(tmp_path, bundle_path, label_sets=str(folder)) as service, checking_client(service) as client:
        put(client, "old", labels=["cat", "dog"])
        fill(small_disk)
        refused(client, service, "their store is full", os.strerror(28))
        assert {file.name for file in folder.iterdir()} == {"old.json"}
        (small_disk / "filler").unlink()
        put(client, "new", labels=["rabbit"])


def test_a_file_that_may_not_grow(bundle_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    with running(tmp_path, bundle_path, label_sets=str(folder)) as service, checking_client(service) as client:
        put(client, "old", labels=["cat", "dog"])
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))
        labels = [f"{number} {'cat ' * 2000}" for number in range(10)]
        refused(client, service, "their store is full", "File too large", labels=labels, truncate=True)
        assert {file.name for file in folder.iterdir()} == {"old.json"}


def test_a_read_only_disk(bundle_path: Path, tmp_path: Path, small_disk: Path) -> None:
    folder = small_disk / "sets"
    with running(tmp_path, bundle_path, label_sets=str(folder)) as service, checking_client(service) as client:
        put(client, "old", labels=["cat", "dog"])
        assert "label sets cannot be" not in service.log()
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
        refused(client, service, "their store is read-only", os.strerror(30))
        answer = client.delete("/label-sets/old")
        assert error_of(answer) == (503, "unavailable", None)
        assert "read-only" in answer.json()["error"]["message"]
        assert client.get("/label-sets/old").status_code == 200
    with running(tmp_path, bundle_path, label_sets=str(folder)) as again, checking_client(again) as client:
        assert f"label sets cannot be written: [Errno 30] Read-only file system: '{folder}'" in again.log()
        assert client.get("/label-sets/old").json()["labels"] == ["cat", "dog"]


def test_a_file_in_the_place_of_the_folder_is_told_at_the_start(bundle_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    folder.write_text("a file")
    with running(tmp_path, bundle_path, label_sets=str(folder)) as service:
        assert "label sets cannot be listed: [Errno 20]" in service.log()
        answer = httpx.put(f"{service.url}/label-sets/new", json={"labels": ["cat"]})
        assert error_of(answer) == (503, "unavailable", None)
        assert "lies in the place of their folder" in answer.json()["error"]["message"]


def link(folder: Path) -> None:
    (folder / "kept").write_text(json.dumps({**GOOD, "name": "odd"}))
    (folder / "odd.json").symlink_to(folder / "kept")


def bind(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        previous = Path.cwd()
        os.chdir(folder)  # such a path may not be long
        try:
            server.bind("odd.json")
        finally:
            os.chdir(previous)


def grow(folder: Path) -> None:
    with (folder / "odd.json").open("wb") as file:
        file.truncate(4 * 2**30)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "FIFO": (lambda folder: os.mkfifo(folder / "odd.json"), "it is a FIFO"),
    "link": (link, "it is a symbolic link"),
    "endless link": (lambda folder: (folder / "odd.json").symlink_to("odd.json"), "it is a symbolic link"),
    "socket": (bind, "it is a socket"),
    "folder": (lambda folder: (folder / "odd.json").mkdir(), "it is a folder"),
    "huge": (grow, f"it is larger than {MAX_DOCUMENT_BYTES} bytes"),
    "deep": (lambda folder: (folder / "odd.json").write_bytes(b"[" * 2**20), "all of it: "),
    "no name of ours": (lambda folder: (folder / "odd one.json").write_text("{}"), "its name is none of a label set"),
}


@pytest.fixture(scope="module")
def swept(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    folder = tmp_path_factory.mktemp("swept") / "sets"
    folder.mkdir()
    with running(folder.parent, bundle_path, label_sets=str(folder)) as service:
        yield service, folder


@pytest.fixture
def odd(swept: tuple[Running, Path]) -> Iterator[tuple[Running, Path, httpx.Client]]:
    service, folder = swept
    with checking_client(service) as client:
        put(client, "good", labels=["cat"])
        yield service, folder, client
    for file in folder.iterdir():
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_label_set_is_skipped_counted_and_told(odd: tuple[Running, Path, httpx.Client], name: str) -> None:
    service, folder, client = odd
    lay, why = ODD[name]
    before = service.log().count("left alone")
    lay(folder)
    for _ in range(2):
        listed = client.get("/label-sets").json()
        assert ([each["name"] for each in listed["label_sets"]], listed["skipped"]) == (["good"], 1)
    told = service.log()
    assert told.count("left alone") == before + 1
    assert f"is not a label set and is left alone: {why}" in told
    assert error_of(client.get("/label-sets/odd"))[0] == 404
    assert client.get("/label-sets/good").status_code == 200


@pytest.mark.parametrize("name", ["FIFO", "link", "socket", "folder"])
def test_what_is_no_file_is_not_removed(odd: tuple[Running, Path, httpx.Client], name: str) -> None:
    _, folder, client = odd
    ODD[name][0](folder)
    assert error_of(client.delete("/label-sets/odd")) == (404, "label_set_not_found", "name")
    assert (folder / "odd.json").exists()


def test_many_that_are_none_make_few_lines(odd: tuple[Running, Path, httpx.Client]) -> None:
    service, folder, client = odd
    client.get("/label-sets")  # what was there before is forgotten
    before = service.log().count("left alone")
    for number in range(200):
        (folder / f"bad-{number}.json").write_text("{")
    assert client.get("/label-sets").json()["skipped"] == 200
    assert service.log().count("left alone") == before + MAX_WARNINGS
    assert service.log().count("counts it as skipped") == 1


def test_a_folder_of_something_else_is_not_read_for_ever(odd: tuple[Running, Path, httpx.Client]) -> None:
    _, folder, client = odd
    for number in range(MAX_ENTRIES):
        (folder / str(number)).touch()
    answer = client.get("/label-sets")
    assert error_of(answer) == (503, "unavailable", None)
    assert client.get("/label-sets/good").status_code == 200


def test_a_lock_that_another_process_holds_ends_the_wait(odd: tuple[Running, Path, httpx.Client]) -> None:
    service, folder, client = odd
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            storing = pool.submit(client.put, "/label-sets/new", json={"labels": ["cat"]})
            time.sleep(0.5)
            assert not storing.done()
            (folder / "unseen.json").write_text(json.dumps({**GOOD, "name": "unseen"}))
            assert httpx.get(f"{service.url}/label-sets/unseen", timeout=PATIENCE_S).status_code == 200
            answer = storing.result()
        assert error_of(answer) == (503, "unavailable", None)
        assert "does not answer in time" in answer.json()["error"]["message"]
        assert client.get("/label-sets/good").status_code == 200
    finally:
        os.close(descriptor)
    assert "another process has locked" in service.log()
    put(client, "new", labels=["cat"])


def test_a_label_set_too_large_to_be_read_again_is_not_written(tmp_path: Path) -> None:
    """In JSON, a control character takes six bytes."""
    fitting, large = (
        LabelSet.model_validate({**GOOD, "labels": [f"{number}" + "\0" * length for number in range(10)]})
        for length in (MAX_DOCUMENT_BYTES // 61, MAX_DOCUMENT_BYTES // 60)
    )

    async def scenario() -> None:
        store = FileStore(tmp_path)
        await store.write(fitting, 2)
        with pytest.raises(ApiError, match="one can take") as refusal:
            await store.write(large, 2)
        assert refusal.value.code == "too_many_inputs"
        assert await store.read("by-hand") == (fitting, await store.version("by-hand"))
        await store.aclose()

    asyncio.run(scenario())
