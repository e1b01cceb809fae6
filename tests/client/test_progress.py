"""A bar for people, where something that draws one is installed; nothing for programs."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

import sightword
from sightword.progress import bar


class Terminal:
    """What is written to a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """From now on; pytest takes back what a fixture sets."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in [*sys.modules, *names]:
        if name.partition(".")[0] in names:
            monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("calls", ["client", "local"])
def test_a_long_list_has_a_bar(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, calls: str) -> None:
    embedder: Any = request.getfixturevalue(calls)
    terminal = on_terminal(monkeypatch)
    embedder.embed([f"{index} bars" for index in range(100)], progress=True)
    assert "100/100" in terminal.text or "100%" in terminal.text
    terminal.text = ""
    embedder.embed(["no bar"])
    assert terminal.text == ""


def test_programs_see_nothing(client: sightword.Client, capsys: pytest.CaptureFixture[str]) -> None:
    client.embed([f"{index} bars" for index in range(100)], progress=True)
    assert capsys.readouterr() == ("", "")


def test_rich_draws_it_where_tqdm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    without(monkeypatch, "tqdm")
    with bar(True, 10, "embed") as advance:
        advance(10)
    assert "embed" in terminal.text


def test_without_either_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    without(monkeypatch, "tqdm", "rich")
    with bar(True, 10, "embed") as advance:
        advance(10)
    assert terminal.text == ""


def test_a_notebook_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []

    class Widget:
        def __init__(self, **options: Any) -> None:
            drawn.append(options)

        def __enter__(self) -> Widget:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, items: int) -> None:
            drawn.append(items)

    automatic = ModuleType("tqdm.auto")
    automatic.tqdm = Widget  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", automatic)
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", ModuleType("ipykernel.kernelapp"))
    with bar(True, None, "embed") as advance:
        advance(3)
    assert drawn == [{"total": None, "desc": "embed", "unit": "item", "file": None}, 3]
