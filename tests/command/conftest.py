"""The command in this process, pictures for it, and a service that it asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import sightword
from benchmarks.service_process import Running, running
from model.bundle import bundled
from sightword.command.main import app
from sightword.local.embedder import Local

ROOT = Path(__file__).parents[2]
KEY = "a-key-of-the-tests-0123456789"


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Done]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`sightword` with these arguments; what it raises beside its exit is a failure of the test."""
    for name in ("SIGHTWORD_URL", "SIGHTWORD_API_KEY", "SIGHTWORD_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, stdin: str | bytes | None = None) -> Done:
        result = CliRunner().invoke(app, [str(each) for each in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of pictures, relative to the current one; with what is none, what is hidden, and a folder in it."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name, place in {"coffee": "", "chelsea": "", "rocket": "more"}.items():
        shutil.copy(ROOT / "model" / "probe_data" / f"{name}.jpg", folder / place)
    shutil.copy(folder / "coffee.jpg", folder / ".hidden")
    shutil.copy(folder / "coffee.jpg", folder / ".thumbnail.jpg")
    (folder / "notes.txt").write_text("not a picture")
    monkeypatch.chdir(tmp_path)
    return Path("photos")


IN_PHOTOS = ["photos/chelsea.jpg", "photos/coffee.jpg", "photos/more/rocket.jpg"]


@pytest.fixture(scope="session")
def local() -> Iterator[Local]:
    with sightword.load() as model:
        yield model


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("service"), bundled(), api_keys=KEY) as found:
        yield found
