"""A bundle into a running service under load: no request lost, a worse or refused one put back, a kill mended."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks.service_process import PATIENCE_S, Running, running
from model.bundle import Bundle, bundled, write_manifest
from model.manifest import MANIFEST, WEIGHTS
from training import __main__ as training
from training.corpus.shards import read_shard
from training.publishing.publish import PublishTarget, find_served_model
from training.publishing.served_folder import ServedFolder
from training.publishing.service_client import PublishError, ServedModel, ServiceClient, retry_after_s

KEY = "an operator's long key"
SAMPLE = Path(training.__file__).parent / "sample"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled one with the rows of a matrix of its text tower shifted: of the same id, and by far worse."""
    folder = shutil.copytree(bundled(), tmp_path_factory.mktemp("untrained") / "bundle")
    manifest = Bundle.load(folder).manifest.model_dump(mode="json", exclude={"files"})
    content = bytearray((folder / WEIGHTS).read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    first, last = (start + at for at in json.loads(content[8:start])["text_projection"]["data_offsets"])
    half = (last - first) // 2
    content[first:last] = content[first + half : last] + content[first : first + half]
    (folder / WEIGHTS).write_bytes(content)
    return write_manifest(folder, manifest).path


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The labelled pictures of the sample that comes along, as folders."""
    folder = tmp_path_factory.mktemp("check")
    [shard] = SAMPLE.glob("test-*.tar")
    for key, picture, said in read_shard(shard):
        if not said["label"]:
            continue
        file = folder / str(said["label"]) / f"{key}.webp"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture)
    return str(folder)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_ADMIN_KEY", KEY)


def publish(bundle: Path, service: Running, check: str, *options: str) -> Result:
    return CliRunner().invoke(training.app, ["publish", str(bundle), "--to", service.url, "--check", check, *options])


def digest(service: Running) -> str:
    return str(
        httpx.get(f"{service.url}/info", timeout=PATIENCE_S, headers={"x-api-key": KEY}).json()["models"][0]["digest"]
    )


@contextmanager
def load(service: Running) -> Iterator[list[int]]:
    """Two clients that ask all the while; the statuses of all answers."""
    statuses: list[int] = []
    stop = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
            number = 0
            while not stop.is_set():
                number += 1
                body = {"inputs": f"{number} apples", "model": "sightword-small"}
                statuses.append(http.post("/embed", json=body).status_code)
                time.sleep(0.02)  # the machine is not the question here

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_better_stays_worse_goes_and_nobody_notices(untrained: Path, check: str, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "served"
    if kind == "link":
        shutil.copytree(untrained, tmp_path / "first")
        folder.symlink_to("first")
    else:
        shutil.copytree(untrained, folder)
    good, bad = Bundle.load(bundled()), Bundle.load(untrained)
    with running(tmp_path, folder, admin_key=KEY, timeout_s="120") as service, load(service) as statuses:
        better = publish(good.path, service, check)
        assert better.exit_code == 0, better.output
        assert "right in" in better.output
        assert digest(service) == Bundle.load(folder).digest == good.digest
        assert Bundle.load(tmp_path / "served.previous").digest == bad.digest
        worse = publish(bad.path, service, check)
        assert worse.exit_code == 1
        assert "the new model is worse" in worse.output
        assert re.search(r"worse: \d+ of (\d+) \(.*, \d+ of \1 \(.* before", worse.output)
        assert digest(service) == Bundle.load(folder).digest == good.digest
        assert folder.is_symlink() == (kind == "link")
        same = publish(good.path, service, check)
        assert same.exit_code == 0, same.output
    assert len(statuses) > 20
    assert set(statuses) == {200}
    assert not list(tmp_path.glob("served.[nru][en][wfd]*"))  # new, refused, undecided
    assert "Traceback" not in service.log()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    root = tmp_path_factory.mktemp("served")
    folder = shutil.copytree(bundled(), root / "served")
    with running(root, folder, admin_key=KEY, timeout_s="120") as service:
        yield service, folder


def test_a_refused_bundle_is_put_back(served: tuple[Running, Path], check: str, tmp_path: Path) -> None:
    service, folder = served
    spoilt = shutil.copytree(bundled(), tmp_path / "spoilt")
    manifest = Bundle.load(spoilt).manifest.model_dump(mode="json", exclude={"files"})
    (spoilt / "image.onnx").write_bytes(b"no graph")
    (spoilt / MANIFEST).unlink()
    write_manifest(spoilt, manifest)
    done = publish(spoilt, service, check)
    assert done.exit_code == 1
    assert "image.onnx" in done.output
    assert "served again" in done.output
    assert digest(service) == Bundle.load(folder).digest == Bundle.load(bundled()).digest


@pytest.mark.parametrize("reloaded", [False, True])
def test_a_publication_that_was_killed_is_undone_by_the_next(
    served: tuple[Running, Path], untrained: Path, check: str, reloaded: bool
) -> None:
    service, folder = served
    killed = ServedFolder(folder)
    killed.prepare(Bundle.load(untrained), "sightword-small")
    killed.swap()
    if reloaded:
        ServiceClient(service.url).reload("sightword-small")
        assert digest(service) == Bundle.load(untrained).digest
    done = publish(untrained, service, check)
    assert "an earlier publication was cut off" in done.output
    assert (done.exit_code, "is worse" in done.output) == (1, True)
    assert digest(service) == Bundle.load(folder).digest == Bundle.load(bundled()).digest


def test_a_kill_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    folder = ServedFolder(shutil.copytree(bundled(), tmp_path / "served"))
    folder.path.rename(tmp_path / "served.undecided")
    assert folder.recover()
    assert Bundle.load(folder.path)
    assert not folder.recover()


def test_another_id_needs_to_be_told(served: tuple[Running, Path], check: str, tmp_path: Path) -> None:
    service, folder = served
    renamed = shutil.copytree(bundled(), tmp_path / "renamed")
    write_manifest(renamed, Bundle.load(renamed).manifest.model_dump(mode="json", exclude={"files"}) | {"id": "mine"})
    refused = publish(renamed, service, check)
    assert (refused.exit_code, "--replace" in refused.output) == (1, True)
    done = publish(renamed, service, check, "--replace", "sightword-small")
    assert done.exit_code == 0, done.output
    assert Bundle.load(folder).id == "sightword-small"


def test_what_cannot_be_published_is_told_and_changes_nothing(
    served: tuple[Running, Path], check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, folder = served
    other = publish(bundled(), service, check, "--folder", str(tmp_path))
    assert (other.exit_code, "--folder" in other.output) == (1, True)
    wrong = shutil.copytree(bundled(), tmp_path / "wrong")
    (wrong / "tokenizer.json").unlink()
    assert "tokenizer.json" in publish(wrong, service, check).output
    with ServedFolder(folder).lock():
        assert "somebody else publishes" in publish(bundled(), service, check).output
    service.url, right = "http://127.0.0.1:9", service.url
    away = publish(bundled(), service, check)
    service.url = right
    assert (away.exit_code, "cannot be reached" in away.output) == (1, True)
    monkeypatch.setenv("SIGHTWORD_ADMIN_KEY", "another key, as long")
    keyless = publish(bundled(), service, check)
    assert (keyless.exit_code, "401" in keyless.output) == (1, True)
    monkeypatch.delenv("SIGHTWORD_ADMIN_KEY")
    assert "set SIGHTWORD_ADMIN_KEY" in publish(bundled(), service, check).output
    assert sorted(entry.name for entry in folder.parent.glob("served.*") if "previous" not in entry.name) == [
        "served.lock"
    ]


class FakeClient(ServiceClient):
    def __init__(self, setting: str | None) -> None:
        self.url, self._setting = "http://there", setting

    def models(self) -> list[ServedModel]:
        return [ServedModel("a", "0" * 64, self._setting)]


@pytest.mark.parametrize(("setting", "message"), [(None, "inside its package"), ("ViT-B-32", "--folder")])
def test_a_service_whose_folder_is_not_known(setting: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=message):
        find_served_model(FakeClient(setting), "a", PublishTarget("http://there"))
    if setting:
        assert find_served_model(FakeClient(setting), "a", PublishTarget("http://there", tmp_path))[1] == tmp_path


@pytest.mark.parametrize(
    ("retry_after", "wait_s"),
    [("1", 1.0), ("3", 3.0), ("120", 5.0), ("0", 0.0)]
    + [(text, 1.0) for text in ("", "nan", "inf", "-5", "1e3", "9" * 5000, "Wed, 21 Oct 2026 07:28:00 GMT")],
)
def test_what_a_full_service_or_its_proxy_says_of_the_next_try(retry_after: str, wait_s: float) -> None:
    assert retry_after_s(retry_after) == wait_s
