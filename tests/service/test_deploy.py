"""What the container files say about the service is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from model.hub.settings import VARIABLES
from service.settings import PREFIX, Settings
from tests.service.process import Running

ROOT = Path(__file__).parents[2]
HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"


def check_health(port: int) -> int:
    # A proxy of the environment must not come between the check and the service.
    environment = {**os.environ, "SIGHTWORD_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, HEALTHCHECK], env=environment, timeout=30, check=False).returncode


def test_the_health_check_sees_a_ready_service(service: Running) -> None:
    assert check_health(httpx.URL(service.url).port or 0) == 0


def test_the_health_check_sees_that_there_is_none() -> None:
    assert check_health(9) == 1


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml"])
def test_the_settings_named_there_exist(name: str) -> None:
    settings = {PREFIX + field.upper() for field in Settings.model_fields} | VARIABLES
    given = re.findall(rf"^\s*(?:ENV )?({PREFIX}\w+)[:=]", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    assert given
    assert set(given) <= settings


def test_the_containers_time_to_stop_is_longer_than_the_drain() -> None:
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    [stop_s] = re.findall(r"stop_grace_period: (\d+)s", compose)
    [drain_s] = re.findall(r'SIGHTWORD_DRAIN_S: "(\d+)"', compose)
    assert int(stop_s) > int(drain_s) + 5
