"""The blocks of code in the documents, and a reader who runs them: in a copy of the repository, against a service.

A block is run as its language says. What cannot run has `<!-- not run: REASON -->` above it, and is only read: for
commands and options that there are not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 300.0
HOST = re.compile(r"\b(?:localhost|127\.0\.0\.1):8000\b")
# What a clone holds and the commands of the documents use.
_CLONED = ("model", "service", "sightword", "training", "deploy", "docs", "benchmarks", "examples")
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+) -->\n)?```(?P<language>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """What stands between two fences of a document."""

    document: str  # its path in the repository
    line: int
    language: str
    text: str
    reason: str | None  # why it is not run

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[str]:
    """Every Markdown file that is in the repository, by its path."""
    skipped = {"node_modules", "data", "runs", "build", "dist"}
    found = [path.relative_to(ROOT) for path in ROOT.rglob("*.md")]
    return sorted(
        str(path) for path in found if not any(part.startswith(".") or part in skipped for part in path.parts)
    )


def blocks(document: str) -> Iterator[Block]:
    """Those of one document, in their order."""
    content = (ROOT / document).read_text("utf-8")
    for match in _FENCE.finditer(content):
        line = content.count("\n", 0, match.start("language")) + 1
        yield Block(document, line, match["language"].strip(), match["text"], match["reason"])


@dataclass
class Reader:
    """Somebody in a copy of the repository, with what it installs in `.venv`, who types what a document says."""

    folder: Path
    address: str  # HOST:PORT of the service
    environment: Mapping[str, str] = field(default_factory=dict)

    def settle(self) -> None:
        """Make the copy."""
        for name in _CLONED:
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.folder / ".venv").symlink_to(sys.prefix)
        # With this, curl ends with an error where the answer is one, and draws no progress.
        (self.folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")

    def console(self, block: Block) -> str:
        """What bash prints of it."""
        return self._run(block, "bash", "-euo", "pipefail", "-c", self._addressed(block))

    def python(self, block: Block) -> str:
        """What Python prints of it."""
        return self._run(block, sys.executable, "-c", self._addressed(block))

    def _addressed(self, block: Block) -> str:
        return HOST.sub(self.address, block.text)

    def _run(self, block: Block, *command: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTWORD_", "HF_"))}
        own = {
            "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "CURL_HOME": str(self.folder),
            "SIGHTWORD_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "2",
        }
        environment = {**inherited, **own, **self.environment}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def answers(printed: str) -> list[object]:
    """The JSON values that a block printed, one after the other."""
    decoder, values, rest = json.JSONDecoder(), [], printed.lstrip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].lstrip()
    return values
