"""Misspelt variables and values: every program names the nearest right one, also for what stands in `.env`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model import environment
from model.environment import CLIENT, COMPOSE, HUB, PREFIX, SERVICE, TRAINING, EnvironmentFileError, unknown_variables
from model.hub.errors import HubError
from model.hub.settings import HubSettings
from service import settings as service_settings
from service.settings import Settings, SettingsError
from training.settings import Settings as TrainingSettings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in environment.unknown_variables().keys() | set(environment.VARIABLES) | set(environment.HUGGING_FACE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_each_program_knows_the_variables_of_all() -> None:
    assert set(SERVICE) == {name.upper() for name in Settings.model_fields}
    assert {*HUB, "ENDPOINT", "TOKEN"} == {name.upper() for name in HubSettings.model_fields}
    assert set(TRAINING) == {f"TRAINING_{name.upper()}" for name in TrainingSettings.model_fields}
    assert CLIENT == ("URL", "API_KEY")  # tests/client/test_settings.py
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert all(f"${{{PREFIX}{name}:-" in compose for name in COMPOSE)


MISSPELT = {
    "SIGHTWORD_PROT": "SIGHTWORD_PORT",
    "SIGHTWORD_MODELS": "SIGHTWORD_MODEL",
    "sightword_max_item": "SIGHTWORD_MAX_ITEMS",
    "SIGTHWORD_PORT": "SIGHTWORD_PORT",
    "SIGHWORD_REDIS_URL": "SIGHTWORD_REDIS_URL",
    "SIGHTWORDS_QUEUE_ITEMS": "SIGHTWORD_QUEUE_ITEMS",
    "SIGHTWORD_TRAINING_OUPUT": "SIGHTWORD_TRAINING_OUTPUT",
    "SIGHTWORD_OFLINE_FOLDER": "SIGHTWORD_OFFLINE_FOLDER",
    "HF_ENDPONT": "HF_ENDPOINT",
    "HF_TOKN": "HF_TOKEN",
}


@pytest.mark.parametrize("wrong", MISSPELT)
@pytest.mark.parametrize("in_file", [False, True])
def test_the_nearest_variable_is_offered(
    wrong: str, in_file: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if in_file:
        (tmp_path / ".env").write_text(f"\ufeff{wrong}=1\n", "utf-8")
    else:
        monkeypatch.setenv(wrong, "1")
    assert unknown_variables() == {wrong.upper(): f"did you mean {MISSPELT[wrong]}?"}


@pytest.mark.parametrize(
    "other",
    ["SIGHTWORD_PORT", "SIGHTWORD_URL", "SIGHTWORD_API_KEY", "SIGHTWORD_GPU_PORT", "HF_HOME", "HF_HUB_CACHE", "SIGN_A"],
)
def test_what_others_read_is_no_mistake(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(other, "1")
    assert unknown_variables() == {}


def test_where_nothing_is_near_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_ZZZZZZZZZZZZZZZZZZZZZZ", "1")
    assert list(unknown_variables().values()) == [""]


def test_a_lost_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_API_KEY", "a-secret-0123456789")
    with pytest.raises(SettingsError, match="did you mean SIGHTWORD_API_KEYS"):
        service_settings.unknown_variables()


def test_a_key_of_the_client_is_no_mistake_where_the_service_has_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTWORD_API_KEY", "a-secret-0123456789")
    assert service_settings.unknown_variables(Settings.read({"api_keys": "a-secret-0123456789"})) == {}
    with pytest.raises(SettingsError, match="did you mean SIGHTWORD_API_KEYS"):
        service_settings.unknown_variables(Settings.read({}))


@pytest.mark.parametrize("program", ["model version", "training config", "service --redis-url none"])
def test_every_program_says_so(program: str, tmp_path: Path) -> None:
    """The last one ends there, for another reason."""
    (tmp_path / ".env").write_text("SIGHTWORD_PROT=1\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    ended = subprocess.run(
        [sys.executable, "-m", *program.split()],
        env={**inherited, "PYTHONPATH": str(ROOT), "SIGHTWORD_TRAINING_OUPUT": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    for wrong, right in (("PROT", "PORT"), ("TRAINING_OUPUT", "TRAINING_OUTPUT")):
        [line] = [line for line in ended.stderr.splitlines() if f"{PREFIX}{wrong}" in line]
        assert f"did you mean {PREFIX}{right}?" in line


VALUES = [
    ({"provider": "cdua"}, "did you mean cuda?"),
    ({"provider": "CPU"}, "did you mean cpu?"),
    ({"provider": "tensor-rt"}, "did you mean tensorrt?"),
    ({"log_format": "jsn"}, "did you mean json?"),
    ({"truncate": "ture"}, "did you mean true?"),
    ({"truncate": "flase"}, "did you mean false?"),
]


@pytest.mark.parametrize(("given", "offer"), VALUES)
def test_the_nearest_value_is_offered(given: dict[str, str], offer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [(name, value)] = given.items()
    monkeypatch.setenv(f"{PREFIX}{name.upper()}", value)
    for flags in ({}, given):
        with pytest.raises(SettingsError, match=f"SIGHTWORD_{name.upper()}") as refusal:
            Settings.read(flags)
        assert str(refusal.value).endswith(offer)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("SIGHTWORD_PORT=8000 # für alle\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8"):
        Settings.read({})
    with pytest.raises(HubError, match=r"\.env is not UTF-8"):
        HubSettings.read()
    with pytest.raises(SystemExit, match=r"\.env is not UTF-8"):
        TrainingSettings.read()
    with pytest.raises(EnvironmentFileError, match=r"\.env is not UTF-8"):
        unknown_variables()


def test_a_file_that_begins_with_a_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("\ufeffSIGHTWORD_PORT=81\n", "utf-8")
    assert Settings.read({}).port == 81
