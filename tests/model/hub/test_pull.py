"""python -m model pull, to the bundle: whole, interrupted, offline, twice at once."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle, bundled
from model.checkpoints import importer
from model.hub import names
from model.hub.download import download
from model.hub.folders import find_bundle
from model.hub.names import Archive, PublishedModel, published_model
from model.hub.settings import HubSettings
from tests.model.checkpoints import archives
from tests.model.checkpoints.openclip import models as openclip_models
from tests.model.hub.hub_server import COMMIT, Hub
from tests.model.hub.published_models import NAME
from tests.model.hub.recorder import Recorder

WEIGHTS = "model.safetensors"


def pull(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["pull", *arguments], catch_exceptions=False)


def test_a_model_of_the_hub_becomes_a_bundle(model_hub: Hub, tmp_path: Path, checkpoint: Path) -> None:
    outcome = pull(NAME)
    assert outcome.exit_code == 0, outcome.output
    folder = find_bundle(NAME)
    assert folder == tmp_path / "home" / "bundles" / "an-org--a-model"
    bundle = Bundle.load(folder)
    assert bundle.id == "an-org--a-model"
    kept = bundle.manifest.source["published"]
    assert (kept["name"], kept["from"], kept["revision"]) == (NAME, f"{model_hub.url}/{NAME}", COMMIT)
    assert kept["sha256"][WEIGHTS] == hashlib.sha256((checkpoint / WEIGHTS).read_bytes()).hexdigest()
    assert kept["sha256"].keys() >= {"config.json", "tokenizer.json"}
    assert f"{model_hub.url}/{NAME}, mit" in outcome.stderr
    assert f"{WEIGHTS}: " in outcome.stderr
    assert "100 %" in outcome.stderr
    assert outcome.stdout.splitlines()[-1] == f"serve it: SIGHTWORD_MODEL={NAME} python -m service"
    assert not model_hub.asked("README")
    assert not model_hub.asked("pytorch_model.bin")
    assert list((tmp_path / "home" / "downloads").iterdir()) == []

    before = len(model_hub.requests)
    again = pull(NAME)
    assert again.exit_code == 0
    assert "is here already" in again.stderr
    assert len(model_hub.requests) == before

    inspected = CliRunner().invoke(app, ["inspect", NAME])
    assert bundle.digest in inspected.stdout


def test_a_damaged_bundle_in_a_folder_of_its_own_is_pulled_again(model_hub: Hub, tmp_path: Path) -> None:
    to = tmp_path / "elsewhere" / "bundle"
    shutil.copytree(bundled(), to)
    other = pull(NAME, "--to", str(to))
    assert other.exit_code == 1
    assert "holds sightword-small" in other.stderr
    (to / "tokenizer.json").write_text("altered")
    damaged = pull(NAME, "--to", str(to))
    assert damaged.exit_code == 1
    assert "tokenizer.json" in damaged.stderr
    assert "--force" in damaged.stderr
    assert not model_hub.requests
    outcome = pull(NAME, "--to", str(to), "--force", "--keep-download")
    assert outcome.exit_code == 0, outcome.output
    assert f"SIGHTWORD_MODEL={to}" in outcome.stdout
    assert Bundle.load(to).id == "an-org--a-model"
    assert find_bundle(NAME) is None
    assert (tmp_path / "home" / "downloads" / "an-org--a-model" / COMMIT / WEIGHTS).is_file()
    assert [path.name for path in to.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_a_folder_of_something_else_is_left_alone(model_hub: Hub, tmp_path: Path, flags: list[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    outcome = pull(NAME, "--to", str(tmp_path / "mine"), *flags)
    assert outcome.exit_code == 1
    assert "not empty" in outcome.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    assert not model_hub.requests


def test_weights_that_cannot_be_imported_leave_no_bundle(model_hub: Hub, tmp_path: Path) -> None:
    model_hub.repos[NAME]["config.json"] = b'{"model_type": "bert"}'
    outcome = pull(NAME)
    assert outcome.exit_code == 1
    assert f"{NAME} cannot be imported" in outcome.stderr
    assert list((tmp_path / "home" / "bundles").iterdir()) == []


def test_what_open_clip_must_build_is_not_fetched_without_it(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.commands.pull.find_spec", lambda _: None)
    outcome = pull("PE-Core-B-16__meta")
    assert outcome.exit_code == 1
    assert "open_clip is not installed" in str(outcome.exception) + outcome.output
    assert "convert-all" in str(outcome.exception) + outcome.output
    assert not hub.requests


def test_an_archive_of_openai_becomes_a_bundle(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_clip: Any
) -> None:
    cfg = {**openclip_models.VIT, "quick_gelu": True}
    theirs = openclip_models.build(open_clip, cfg)
    file = archives.write_archive(theirs, theirs.state_dict(), tmp_path / "RN50.pt", scripted=False)
    content = file.read_bytes()
    hub.files["/RN50.pt"] = content
    archive = Archive(f"{hub.url}/RN50.pt", hashlib.sha256(content).hexdigest(), "timm/resnet50_clip.openai")
    monkeypatch.setattr(names, "known_models", lambda: {"RN50": PublishedModel("RN50", archive)})
    hub.cut_after = [len(content) // 2]
    outcome = pull("RN50")
    assert outcome.exit_code == 0, outcome.output
    assert hub.sent("RN50.pt") == len(content)
    folder = find_bundle("RN50")
    assert folder is not None
    bundle = Bundle.load(folder)
    assert bundle.id == "RN50"
    assert bundle.manifest.config.activation == "quick_gelu"
    assert bundle.manifest.source["published"]["sha256"] == {"RN50.pt": archive.sha256}


class Child:
    """`python -m model pull` as a process of its own."""

    def __init__(self, name: str, log: Path) -> None:
        self.log_file = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "model", "pull", name], stdout=stream, stderr=subprocess.STDOUT, env=os.environ
            )

    def log(self) -> str:
        return self.log_file.read_text("utf-8")


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.process.kill()
        child.process.wait()


def wait_until(true: Any) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_process_that_was_killed_goes_on_where_it_ended(
    model_hub: Hub, tmp_path: Path, children: list[Child], settings: HubSettings, reporter: Recorder
) -> None:
    content = model_hub.repos[NAME][WEIGHTS]
    model_hub.pause_s = 0.3
    child = Child(NAME, tmp_path / "log")
    children.append(child)
    wait_until(lambda: any(part.stat().st_size for part in tmp_path.rglob(f"{WEIGHTS}.partial")))
    child.process.kill()
    child.process.wait(20)
    [partial] = tmp_path.rglob("*.partial")
    downloaded = partial.stat().st_size
    assert 0 < downloaded < len(content)
    model_hub.pause_s = 0
    assert (download(published_model(NAME), settings, reporter).checkpoint / WEIGHTS).read_bytes() == content
    _, second = model_hub.asked(f"cdn/{WEIGHTS}")
    assert second.headers["range"] == f"bytes={downloaded}-"
    assert (second.status, second.sent) == (206, len(content) - downloaded)
    assert not list(tmp_path.rglob("*.partial"))


def test_two_pulls_at_once(model_hub: Hub, tmp_path: Path, children: list[Child]) -> None:
    model_hub.pause_s = 0.3  # the first must not end before the second begins
    children.append(Child(NAME, tmp_path / "first"))
    wait_until(lambda: model_hub.sent(WEIGHTS))
    children.append(Child(NAME, tmp_path / "second"))
    wait_until(lambda: "waiting" in children[1].log())
    model_hub.pause_s = 0
    assert [child.process.wait(60) for child in children] == [0, 0]
    assert "is here already" in children[1].log()
    assert model_hub.sent(WEIGHTS) == len(model_hub.repos[NAME][WEIGHTS])


def test_files_from_a_folder_leave_an_earlier_download(
    model_hub: Hub, tmp_path: Path, checkpoint: Path, settings: HubSettings, reporter: Recorder
) -> None:
    kept = download(published_model(NAME), settings, reporter).checkpoint / WEIGHTS
    assert pull(NAME, "--from", str(checkpoint)).exit_code == 0
    assert kept.is_file()


def test_a_download_is_kept_where_that_is_said(model_hub: Hub, tmp_path: Path) -> None:
    assert pull(NAME, "--keep-download").exit_code == 0
    assert list((tmp_path / "home" / "downloads").iterdir())
    assert pull(NAME, "--force").exit_code == 0
    assert not list((tmp_path / "home" / "downloads").iterdir())


@pytest.mark.parametrize("at", ["import", "exchange"])
def test_a_forced_pull_that_is_ended_leaves_what_was_there(
    model_hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    to = shutil.copytree(bundled(), tmp_path / "elsewhere" / "bundle")
    before = signal.getsignal(signal.SIGTERM)

    def end(fresh: Path) -> None:
        fresh.mkdir()
        (fresh / "half").write_text("written")
        os.kill(os.getpid(), signal.SIGTERM)

    def import_checkpoint(_: Path, fresh: Path, *rest: Any, **named: Any) -> tuple[None, list[str]]:
        if at == "import":
            end(fresh)
        return None, []  # nothing to put in the place of the folder, once that is away

    monkeypatch.setattr(importer, "import_checkpoint", import_checkpoint)
    outcome = CliRunner().invoke(app, ["pull", NAME, "--to", str(to), "--force"])
    assert outcome.exit_code == (128 + signal.SIGTERM if at == "import" else 1)
    assert Bundle.load(to).id == "sightword-small"
    assert [path.name for path in to.parent.iterdir()] == ["bundle"]
    assert signal.getsignal(signal.SIGTERM) == before


def test_of_several_names_for_the_service_the_first_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_MODEL", f" {bundled()}, ViT-B-32")
    for command in ("inspect", "verify"):
        outcome = CliRunner().invoke(app, [command])
        assert outcome.exit_code == 0, outcome.output
        assert Bundle.load(bundled()).digest in outcome.stdout
    named = CliRunner().invoke(app, ["inspect", f"{bundled()},ViT-B-32"])
    assert named.exit_code == 1
