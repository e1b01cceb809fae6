"""Every command as a new user meets it: `--help` needs nothing and loads little, and what is missing is named."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.requirements import TORCH, install_commands
from training.commands.common import USER_ERRORS

ROOT = Path(__file__).parents[1]
BUNDLE = "model/bundled/sightword-small"
HEAVY = ("torch", "onnxruntime", "onnx", "onnxscript", "pyarrow", "matplotlib", "sklearn", "fastapi", "PIL", "pytest")
# What the extras bring beside `cpu`: what `make serve` leaves out.
EXTRAS = (
    "bracex", "jinja2", "matplotlib", "onnx", "onnxscript", "psutil", "pyarrow", "pytest", "resvg_py", "safetensors",
    "sklearn", "tensorboard", "torch",
)  # fmt: skip
PROGRAMS = ("training", "model", "service", "sightword", "benchmarks.speed", "benchmarks.soak", "benchmarks.bulk",
            "benchmarks.bundled", "benchmarks.variants", "benchmarks.speed.report")  # fmt: skip
# In the interpreter's own start, so that the program under test is not touched: as if they had not been installed.
HIDING = """
import os, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""
HELP = """
import importlib, json, sys
from typer.main import get_command
from typer.testing import CliRunner
program = sys.argv[1]
try:
    module = importlib.import_module(program + ".__main__")
except ModuleNotFoundError:
    module = importlib.import_module(program)
names = [[], *([name] for name in getattr(get_command(module.app), "commands", {}))]
told = {" ".join(name): CliRunner().invoke(module.app, [*name, "--help"]) for name in names}
print(json.dumps([{name: done.exit_code for name, done in told.items()}, sorted(sys.modules)]))
"""


def run(arguments: list[str], folder: Path, hidden: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(HIDING)
    path = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "HIDDEN": " ".join(hidden), "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_every_command_needs_no_extra_and_loads_nothing_that_takes_long(program: str, tmp_path: Path) -> None:
    done = run(["-c", HELP, program], tmp_path, EXTRAS)
    assert done.returncode == 0, done.stderr
    codes, modules = json.loads(done.stdout)
    assert set(codes.values()) == {0}, codes
    if program != "benchmarks.speed.report":  # which reads what a run wrote by the code of the run
        assert [name for name in HEAVY if name in modules] == []


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ("training", "training"),
        ("training train", "training"),
        ("training train --dry-run", "training"),
        ("training compare", "training"),
        ("training evaluate --data x", "training"),
        ("training publish x --to http://127.0.0.1:9 --check x", "training"),
        ("training prepare model/probe_data --to {folder}/shards", "training"),
        ("training corpus --output {folder}/corpus --cache {folder}/cache", "training"),
        ("training corpus --sample --cache {folder}/cache", "training"),
        ("training duplicates --train x --test y", "training"),
        ("training attributions --config training/configs/sample.yaml --output {folder}/a", "training"),
        ("model import x --to {folder}/b", "convert"),
        (f"model export {BUNDLE} --format openclip --to {{folder}}/c", "convert"),
        (f"model optimize {BUNDLE} --precision int8 --to {{folder}}/d", "convert"),
        ("model pull ViT-B-32 --to {folder}/e", "convert"),
        ("benchmarks.speed --size smallest", "dev"),
        ("benchmarks.soak --size smallest", "dev"),
        ("benchmarks.bundled x", "dev"),
        ("benchmarks.variants", "convert"),
    ],
)
def test_a_command_that_lacks_a_module_says_what_to_install(arguments: str, extra: str, tmp_path: Path) -> None:
    done = run(["-m", *arguments.format(folder=tmp_path).split()], tmp_path, EXTRAS)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert f"the extra `{extra}`" in done.stderr
    torch, rest = (line for line in done.stderr.splitlines() if " -m pip install " in line)
    assert torch.endswith(TORCH)  # before what would accept any other build of it
    assert extra in rest


@pytest.mark.parametrize("arguments", ["training config", "training datasets pets", "model presets", "model inspect"])
def test_what_needs_no_extra_works_without(arguments: str, tmp_path: Path) -> None:
    done = run(["-m", *arguments.split()], tmp_path, EXTRAS)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("arguments", ["model verify", "service --port 0"])
def test_what_computes_says_how_to_install_a_runtime(arguments: str, tmp_path: Path) -> None:
    done = run(["-m", *arguments.split()], tmp_path, ("onnxruntime",))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "onnxruntime is not installed" in done.stderr
    assert '[cpu]"' in done.stderr


def test_bulk_says_how_to_install_what_writes_parquet(tmp_path: Path) -> None:
    done = run(["-m", "service", "bulk", "x", "--output", str(tmp_path / "vectors")], tmp_path, ("pyarrow",))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "the extra `parquet`" in done.stderr


def test_a_job_for_ray_says_how_to_install_it_and_its_options_are_for_it_alone(tmp_path: Path) -> None:
    job = ["-m", "service", "bulk", "model/probe_data", "--output", str(tmp_path / "vectors")]
    done = run([*job, "--engine", "ray"], tmp_path, ("ray",))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "the extra `ray`" in done.stderr
    done = run([*job, "--ray-actors", "2"], tmp_path)
    assert done.returncode == 2
    assert "--engine ray" in done.stderr
    assert not (tmp_path / "vectors").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_python_in_which_nothing_is_installed_is_told_so(program: str, tmp_path: Path) -> None:
    missing = (
        ("typer", "pydantic") if program == "sightword" else ("typer", "pydantic", "numpy")
    )  # its client has numpy
    done = run(["-m", program, "--help"], tmp_path, missing)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "-m pip install" in done.stderr


def test_the_commands_to_install_are_those_of_the_makefile_and_the_project() -> None:
    assert f"$(PIP) {TORCH}" in (ROOT / "Makefile").read_text("utf-8")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert project.count(f'"{TORCH}"') == project.count('"torch==')
    assert "--constraint" in install_commands("cpu")[-1]


@pytest.mark.parametrize(("document", "extra"), [("docs/training.md", "training"), ("docs/models.md", "convert")])
def test_the_documents_say_what_to_install_where_it_is_needed(document: str, extra: str) -> None:
    text = (ROOT / document).read_text("utf-8").partition("## Install\n")[2].partition("\n## ")[0]
    torch, rest = (line for line in text.splitlines() if line.startswith(".venv/bin/pip install"))
    assert torch.endswith(TORCH)
    assert rest.endswith(f'".[cpu,{extra}]"')


def test_the_errors_that_a_user_can_mend_are_where_their_names_say() -> None:
    """They are named, not imported, for the sake of --help: one that moves would become a traceback."""
    for name in USER_ERRORS:
        module, _, kind = name.rpartition(".")
        found = getattr(importlib.import_module(module), kind)
        assert issubclass(found, Exception)
        assert found.__module__ == module
