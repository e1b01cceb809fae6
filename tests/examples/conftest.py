from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.service_process import Running
from tests.examples import ROOT
from tests.running_service import running_bundled

DRAWINGS = {"rocket": "noto-1f680", "car": "noto-1f697", "banana": "noto-1f34c"}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_bundled(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(params=["of a service", "none, in this process"])
def url(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("service").url) if request.param == "of a service" else None


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder of three photographs and three drawings, one of them deeper, a file that is broken, and a text."""
    folder = tmp_path / "my pictures"
    (folder / "drawings").mkdir(parents=True)
    for name in ("chelsea", "coffee", "astronaut"):
        shutil.copy2(ROOT / "model" / "probe_data" / f"{name}.jpg", folder)
    with tarfile.open(ROOT / "training" / "sample" / "test-sample-000000.tar") as shard:
        for name, key in DRAWINGS.items():
            member = shard.extractfile(f"{key}.webp")
            assert member is not None
            (folder / "drawings" / f"{name}.webp").write_bytes(member.read())
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder
