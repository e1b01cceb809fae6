"""Two short runs of the same data, and the configuration of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.training.conftest import further, write_config
from training.config import load_config
from training.run import train_and_export


@dataclass(frozen=True)
class TwoRuns:
    """`second` has learned longer."""

    first: Path
    second: Path
    config: Path


@pytest.fixture(scope="session")
def runs(colours: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> TwoRuns:
    folder = tmp_path_factory.mktemp("runs")
    config = write_config(colours, **further(tiny))
    for name, overrides in (("first", []), ("second", ["steps=12", "evaluate_every=12"])):
        train_and_export(load_config(config, overrides), colours, folder / name)
    return TwoRuns(folder / "first", folder / "second", config)
