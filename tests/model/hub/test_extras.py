"""What `make serve` installs for the models that it is to serve: a program that runs before anything is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from model.hub import extras

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("names", [[], ["ViT-B-32"], ["an-org/a-model", "ViT-B/32"], ["no such model", "; rm -rf x"]])
def test_most_models_need_what_converts(names: list[str]) -> None:
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); "
        "runpy.run_module('model.hub.extras', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-I", "-S", "-c", program, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "convert\n"


@pytest.mark.parametrize(
    "name", ["MobileCLIP2-S2", "MobileCLIP2-S2:dfndr2b", "xlm-roberta-base-ViT-B-32__laion5b_s13b_b90k"]
)
def test_one_that_a_library_builds_needs_the_library(name: str) -> None:
    assert extras.extra_for([name]) == "convert-all"
    assert extras.extra_for(["ViT-B-32", name]) == "convert-all"
