"""Programs that use the client are checked by their types: what it gives is known, what it does not take is refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
from pathlib import Path
import numpy as np
import PIL.Image
import sightword

client = sightword.Client()
picture, pixels = PIL.Image.new("RGB", (1, 1)), np.zeros((2, 2, 3), np.uint8)
client.embed(["a", Path("b"), b"c", sightword.Image(url="https://a"), picture, pixels], progress=True)
client.embed([Path("b")])
reveal_type(client.embed("a", on_error="item"))
reveal_type(client.classify(PIL.Image.new("RGB", (1, 1)), ["b"])[0].label)
reveal_type(client.rank("a", ["b"])[0].score)
reveal_type(client.label_sets.list())
reveal_type(sightword.load().info().model().digest)

async def main() -> None:
    async with sightword.AsyncClient() as other:
        reveal_type(await other.embed("a", on_error="item"))

client.embed(3)
client.embed("a", on_error="skip")
client.rank("a", [None])
"""


def test_a_program_is_checked(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    checked = subprocess.run(
        [*mypy, "program.py"], cwd=tmp_path, env={"MYPYPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert re.findall(r'Revealed type is "(?:builtins\.)?([^"]*)"', checked.stdout) == [
        "sightword.results.Embedded", "str | None", "float", "list[str]", "str", "sightword.results.Embedded",
    ]  # fmt: skip
    wrong = PROGRAM.splitlines().index("client.embed(3)") + 1
    lines = {int(line) for line in re.findall(r"program\.py:(\d+): error", checked.stdout)}
    assert lines == {wrong, wrong + 1, wrong + 2}, checked.stdout
