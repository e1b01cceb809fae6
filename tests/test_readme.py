"""The README's requests get the README's answers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from model.bundle import bundled
from tests.service.process import running

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"```console\n(curl .+?)```\n\n```json\n(.+?)```", re.DOTALL)


def close(value: Any) -> Any:
    """The same answer, with room for another processor's rounding."""
    if isinstance(value, dict):
        return {key: close(item) for key, item in value.items()}
    if isinstance(value, list):
        return [close(item) for item in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


def test_every_example_answers_as_printed(tmp_path: Path) -> None:
    examples = EXAMPLE.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(examples) == 3
    with running(tmp_path, bundled()) as service:
        for command, answer in examples:
            here = command.replace("localhost:8000", service.url.removeprefix("http://"))
            shown = subprocess.run(
                ["bash", "-c", f"{here.strip()} --silent"], cwd=ROOT, capture_output=True, check=True
            )
            assert json.loads(shown.stdout) == close(json.loads(answer)), command
