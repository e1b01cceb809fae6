"""Every block of every document does what it says, as it stands there."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

import model.__main__
import sightword.command.main
import training.__main__
from benchmarks.service_process import running
from model.bundle import bundled
from model.checkpoints import openclip
from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint
from tests.documents import HOST, ROOT, Block, Reader, answers, blocks, documents
from tests.model.hub.hub_server import playing_hub
from tests.model.hub.published_models import save_huggingface
from training.config import load_config
from training.settings import CONFIGS

LANGUAGES = ("console", "python", "json", "yaml")
# What documents pull by name, here of random weights, as their projects publish it.
TRANSFORMERS, OPEN_CLIP = "openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
APPS = {"model": model.__main__.app, "training": training.__main__.app, "sightword": sightword.command.main.app}
COMMAND = re.compile(
    r"(?:-m |^(?:\w+=\S+ )*(?:\.venv/bin/)?(?=sightword ))(model|training|sightword)"
    r"""((?: +(?:'[^']*'|"[^"]*"|[^\s#&|>]+))*)""",
    re.MULTILINE,
)
ADMIN_KEY = "the operator's"


def with_blocks() -> list[str]:
    return [document for document in documents() if any(blocks(document))]


def close(value: Any) -> Any:
    """The same answer, with room for another processor's rounding."""
    if isinstance(value, dict):
        return {key: close(item) for key, item in value.items()}
    if isinstance(value, list):
        return [close(item) for item in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders by the name that they have on the hub."""
    folder = tmp_path_factory.mktemp("published")
    theirs = save_huggingface(folder / "transformers")
    bundle, _ = import_checkpoint(theirs, folder / "bundle", Options())
    openclip.write_folder(bundle, folder / "open_clip")
    return {TRANSFORMERS: theirs, OPEN_CLIP: folder / "open_clip"}


@pytest.fixture
def hub_url(published: dict[str, Path]) -> Iterator[str]:
    with playing_hub() as hub:
        for name, folder in published.items():
            hub.add(name, folder)
        yield hub.url


@pytest.mark.timeout(1200)  # one of them trains, another converts models, on a machine that may be busy
@pytest.mark.parametrize("document", with_blocks())
def test_every_block_runs(document: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """One after the other, in one folder: what one writes, the next may read."""
    found = list(blocks(document))
    runnable = [block for block in found if block.reason is None]
    text = "".join(block.text for block in runnable)
    if not runnable:
        pytest.skip("; ".join(f"{block}: {block.reason}" for block in found))
    with ExitStack() as stack:
        address = ""
        if HOST.search(text):
            service = stack.enter_context(running(tmp_path, bundled(), admin_key=ADMIN_KEY, timeout_s="120"))
            address = service.url.removeprefix("http://")
        hub = request.getfixturevalue("hub_url") if " pull " in text else "http://127.0.0.1:9"
        reader = Reader(tmp_path / "here", address, {"HF_ENDPOINT": hub, "SIGHTWORD_ADMIN_KEY": ADMIN_KEY})
        reader.settle()
        run_in_turn(runnable, reader)


def run_in_turn(runnable: Sequence[Block], reader: Reader) -> None:
    printed = ""
    for block in runnable:
        if block.language == "console":
            printed = reader.console(block)
        elif block.language == "python":
            printed = reader.python(block)
        elif block.language == "json":
            assert answers(printed)[-1] == close(json.loads(block.text)), f"{block} is not what the block before prints"
        elif block.language == "yaml":
            check_configuration(block, reader.folder)
        else:
            raise AssertionError(
                f"{block} is {block.language or 'in no language'}, which nobody can run: name one of "
                f"{', '.join(LANGUAGES)}, or say above it why it is not run: <!-- not run: REASON -->"
            )


def check_configuration(block: Block, folder: Path) -> None:
    """A piece of a training configuration: with the rest of the sample's, one that training takes."""
    whole = {**yaml.safe_load((CONFIGS / "sample.yaml").read_text("utf-8")), **yaml.safe_load(block.text)}
    (folder / "piece.yaml").write_text(yaml.safe_dump(whole), "utf-8")
    loaded = load_config(folder / "piece.yaml").model_dump(mode="json", exclude_unset=True)
    assert loaded.keys() >= yaml.safe_load(block.text).keys(), f"{block} has fields that training does not read"


@pytest.mark.parametrize("block", [block for name in documents() for block in blocks(name) if block.reason], ids=str)
def test_what_is_not_run_names_what_there_is(block: Block) -> None:
    assert list(unknown(block.text)) == []


def unknown(text: str) -> Iterator[str]:
    """Commands, options, modules and targets of make that a block names and that there are not."""
    for package, arguments in COMMAND.findall(text):
        yield from unknown_arguments(typer.main.get_command(APPS[package]), shlex.split(arguments))
    yield from (module for module in re.findall(r"python -m ([\w.]+)", text) if not importlib.util.find_spec(module))
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    yield from {*re.findall(r"^(?:\w+=\S+ )?make ([\w-]+)", text, re.MULTILINE)} - {*targets}


def unknown_arguments(command: Any, arguments: Sequence[str]) -> Iterator[str]:
    if hasattr(command, "commands") and arguments:
        inner = command.commands.get(arguments[0])
        yield from unknown_arguments(inner, arguments[1:]) if inner else [arguments[0]]
        return
    if command.context_settings.get("ignore_unknown_options"):  # those of another program
        return
    options = {
        "--help",
        *(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)),
    }
    yield from {name for word in arguments if (name := word.partition("=")[0]).startswith("-")} - options - {"-"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("make serve\nX=1 make nothing", ["nothing"]),
        (".venv/bin/python -m model import A --too B", ["--too"]),
        ("torchrun -m training trian --config my.yaml", ["trian"]),
        ("python -m training evaluate 'a b' --data x --output=y  # what", []),
        ("python -m service.nothing", ["service.nothing"]),
        ("X=1 sightword embed - -o v.npy | cat --number\nsightword search v.npy 'red car' --tpo 1", ["--tpo"]),
        ("sightword label-sets putt pets", ["putt"]),
    ],
)
def test_what_there_is_not_is_found(text: str, names: list[str]) -> None:
    assert list(unknown(text)) == names


def test_pictures_in_json_may_be_large(tmp_path: Path) -> None:
    """The commands that send base64, with a photograph of more than 2 MB."""
    encoding = [
        block for name in documents() for block in blocks(name) if not block.reason and "base64 <" in block.text
    ]
    assert encoding
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)
    with running(tmp_path, bundled(), timeout_s="120") as service:
        reader = Reader(tmp_path / "here", service.url.removeprefix("http://"))
        reader.settle()
        (reader.folder / "samples").mkdir()
        for name in ("coffee.jpg", "chelsea.jpg"):
            Image.fromarray(noise).save(reader.folder / "samples" / name, quality=95)
            assert (reader.folder / "samples" / name).stat().st_size > 2_000_000
        for block in encoding:
            assert all("embedding" in str(answer) for answer in answers(reader.console(block)))


def test_what_nobody_runs_is_an_error(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "here", "127.0.0.1:9")
    reader.settle()
    for language, text, reason in [
        ("", "make serve\n", "in no language"),
        ("javascript", "1\n", "is javascript"),
        ("console", "python -m model nothing\n", "No such command"),
        ("console", "curl localhost:8000/info\n", "exit code 7"),
        ("python", "import nothing_of_this_name\n", "ModuleNotFoundError"),
        ("yaml", "learning_rte: 1\n", "learning_rte"),
    ]:
        with pytest.raises(Exception, match=reason):
            run_in_turn([Block("a.md", 1, language, text, None)], reader)
    shutil.rmtree(reader.folder)


def test_blocks_are_found_with_their_marks() -> None:
    found = {str(block): block for block in blocks("README.md")}
    assert sum(block.language == "json" for block in found.values()) == 3
    assert all(block.text.strip() for block in found.values())
    for name in documents():
        content, found_there = (ROOT / name).read_text("utf-8"), list(blocks(name))
        assert len(re.findall(r"^\s*```", content, re.MULTILINE)) == 2 * len(found_there), name
        assert len(re.findall(r"^<!-- not run", content, re.MULTILINE)) == sum(bool(b.reason) for b in found_there), (
            name
        )
