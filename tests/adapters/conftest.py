from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.service_process import Running
from tests.adapters import KEY, PICTURES
from tests.running_service import running_bundled


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_bundled(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that wants a key."""
    with running_bundled(tmp_path_factory.mktemp("locked"), api_keys=KEY) as service:
        yield service


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTWORD_URL", raising=False)
    monkeypatch.delenv("SIGHTWORD_API_KEY", raising=False)


@pytest.fixture(params=["of a service", "none, in this process"])
def url(request: pytest.FixtureRequest) -> str | None:
    return str(request.getfixturevalue("service").url) if request.param == "of a service" else None


@pytest.fixture(scope="session")
def paths() -> list[str]:
    return [str(path) for path in PICTURES.values()]
