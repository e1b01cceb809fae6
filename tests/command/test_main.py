"""The command as a whole: its script, its exit codes, and where it is not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sightword
from sightword.command.status import EXPLAINED
from tests.command.conftest import ROOT, Command

SUBCOMMANDS = ("serve", "embed", "classify", "rank", "search", "label-sets", "doctor")


def test_the_script_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"sightword": "sightword.command.main:main"}


def test_the_help_names_every_command_and_exit_code(command: Command) -> None:
    done = command("--help")
    assert done.code == 0
    for name in SUBCOMMANDS:
        assert f" {name} " in done.out
        assert command(name, "--help").code == 0
    for part in ("0, all is done", "1, the rest is done", "2, the", "3, nothing could be done", "130, interrupted"):
        assert part in EXPLAINED
    assert command("--version").out == f"sightword {sightword.__version__}\n"
    assert command("nothing-of-this-name").code == 2


def test_serve_has_the_options_of_the_service(command: Command) -> None:
    said = command("serve", "--help").out
    assert "Usage: sightword serve" in said
    assert "--max-batch" in said
    wrong = command("serve", "--prot", "8000")
    assert (wrong.code, "--port" in wrong.err) == (2, True)


def test_the_script_runs_nothing_of_the_current_folder(tmp_path: Path) -> None:
    """As pip writes it: Python puts the folder of the script first, not the current one."""
    script = tmp_path / "bin" / "sightword"
    script.parent.mkdir()
    script.write_text("import sys\nfrom sightword.command.main import main\nsys.exit(main())\n")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("model", "service", "sightword", "typer", "numpy"):
        (here / f"{name}.py").write_text("raise RuntimeError('this must not run')")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for arguments in (["embed", "--text", "a cat"], ["serve", "--help"]):
        command = [sys.executable, script, *arguments]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_with_the_client_alone_it_says_where_the_command_is(tmp_path: Path) -> None:
    """What the distribution sightword-client holds."""
    shutil.copytree(ROOT / "sightword", tmp_path / "sightword", ignore=shutil.ignore_patterns("command", "__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "sightword", "embed"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert 'pip install "sightword[cpu]"' in done.stderr


def test_an_interrupted_command_says_nothing_and_ends_with_130() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "sightword", "embed", "-"]
    process = subprocess.Popen(command, stdin=read_end, stderr=subprocess.PIPE, env=environment, text=True)
    os.write(write_end, b"a cat\n")
    os.close(read_end)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for the rest of its texts
        process.wait(5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    os.close(write_end)


def test_who_reads_no_more_ends_it_without_a_word() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    texts = "".join(f"text {number}\n" for number in range(300))
    command = f"{sys.executable} -m sightword embed - | head -n 1"
    done = subprocess.run(
        command, shell=True, input=texts, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith('{"key":"text 0"')
    assert done.stderr == ""
