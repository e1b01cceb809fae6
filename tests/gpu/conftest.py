"""Exports that both tests look at, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.gpu.exports import export
from tests.model.conftest import traced_once

__all__ = ["exported", "traced_once"]  # the second makes exporting fast

Exported = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The folder with the graphs of a family in a form."""

    @cache
    def folder(family: str, form: str) -> Path:
        return export(family, form, tmp_path_factory.mktemp(f"{family}-{form}"))

    return folder
