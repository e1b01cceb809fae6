"""What people see on a terminal: a pseudo-terminal, read as it is written."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sightword.command import screen, thumbnails
from sightword.command.inputs import Input
from tests.command.conftest import ROOT

ESCAPES = re.compile(r"\x1b\]8;[^\x1b]*\x1b\\|\x1b\[[\d;]*m")


def on_terminal(*arguments: str, **environment: str) -> str:
    """All that `sightword` writes to a terminal of 120 columns."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("TMUX", "KITTY_WINDOW_ID")}
    variables = {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "TERM": "xterm-256color", **environment}
    main, follower = pty.openpty()
    command = [sys.executable, "-m", "sightword", *arguments]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=variables)
    os.close(follower)
    pieces = []
    try:
        while piece := os.read(main, 65536):
            pieces.append(piece)
    except OSError:  # the other end is closed
        pass
    os.close(main)
    text = b"".join(pieces).decode("utf-8")
    assert process.wait(60) == 0, text
    return text


def test_tables_and_bars_for_people(photos: Path) -> None:
    text = on_terminal("classify", str(photos), "--labels", "cat,cup of coffee")
    assert f"file://{photos.absolute()}/coffee.jpg" in text  # a link
    plain = ESCAPES.sub("", text)
    [line] = [line for line in plain.splitlines() if "photos/coffee.jpg" in line]
    assert re.search(r"cup of coffee +\d+\.\d% +█+", line)
    assert "{" not in plain
    assert '"label":"cat"' in on_terminal("classify", "photos/chelsea.jpg", "--labels", "cat,dog", "--json")


def test_ranking_and_vectors_for_people(photos: Path) -> None:
    first, second, third = ESCAPES.sub("", on_terminal("rank", str(photos), "a cat")).strip().splitlines()[2:5]
    assert re.match(r" *1 +photos/chelsea.jpg +0\.\d{3} +█", first)
    assert (second.split()[0], third.split()[0]) == ("2", "3")
    assert "-o vectors.npy keeps all of them" in on_terminal("embed", str(photos))


def test_the_doctor_for_people() -> None:
    plain = ESCAPES.sub("", on_terminal("doctor"))
    assert re.search(r"^ok +python +3\.", plain, re.MULTILINE)
    assert "Nothing is wrong." in plain


def test_names_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "cat\x1b]0;title\x07\x9b31m\u202e.jpg"
    screen.write_table({"item": "left"}, [(screen.name_of(Input(evil, evil)),)])
    assert not set(capsys.readouterr().out) & {"\x1b", "\x07", "\x9b", "\u202e"}
    screen.report_failures({evil: screen.SightwordError("broken")}, 1)
    assert not set(capsys.readouterr().err) & {"\x1b", "\x07", "\x9b", "\u202e"}


@pytest.mark.parametrize(
    ("share", "shown"), [(-1, ""), (0, ""), (0.5, "█" * 10), (0.026, "▌"), (1, "█" * 20), (2, "█" * 20)]
)
def test_a_bar_is_as_long_as_its_share(share: float, shown: str) -> None:
    assert screen.bar(share) == shown


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-256color"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM_PROGRAM": "iTerm.app", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({}, None),
    ],
)
def test_a_terminal_says_itself_what_it_shows(environment: dict[str, str], protocol: str | None) -> None:
    assert thumbnails.protocol(environment) == protocol


def test_thumbnails_are_shown_where_the_terminal_can(photos: Path) -> None:
    arguments = ("rank", "photos/chelsea.jpg", "photos/coffee.jpg", "a cat")
    assert "\x1b_G" not in on_terminal(*arguments)
    iterm = on_terminal(*arguments, TERM_PROGRAM="iTerm.app")
    [content] = re.findall("\x1b]1337;File=inline=1;size=\\d+;height=5;preserveAspectRatio=1:([^\x07]+)\x07", iterm)
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.size == (2 * 96 + 6, 96)
    kitty = on_terminal(*arguments, KITTY_WINDOW_ID="1")
    chunks = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", kitty)
    assert [control for control, _ in chunks][:1] == ["f=100,a=T,r=5,m=1"]
    assert chunks[-1][0] == "m=0"
    assert max(len(chunk) for _, chunk in chunks) == 4096
    assert base64.b64decode("".join(chunk for _, chunk in chunks)) == base64.b64decode(content)
