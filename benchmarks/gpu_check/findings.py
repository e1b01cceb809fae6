"""What a section finds: promises kept or broken, figures, tables, and what could not be run, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True)
class Options:
    """What every section is given."""

    device: str  # cuda or cpu
    quick: bool  # only to see that everything runs: no speed is judged
    folder: Path  # holds the models, and what sections write

    @property
    def on_gpu(self) -> bool:
        """Whether the promises about GPUs can be looked at."""
        return self.device == "cuda"

    def seconds(self, full: float) -> float:
        """How long to measure."""
        return min(full, 0.05) if self.quick else full


@dataclass
class Promise:
    """`kept` is None where it was not judged."""

    what: str
    kept: bool | None
    measured: str


@dataclass
class Table:
    """A title, the names of its columns, and its rows."""

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Findings:
    """Written to `file` whenever something is added: a section may end at any moment."""

    file: Path | None = None
    promises: list[Promise] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)

    def promise(self, what: str, kept: bool | None, measured: object) -> None:
        """Note whether a promise was kept, and what says so; None where nothing can be said."""
        promise = Promise(what, kept if kept is None else bool(kept), str(measured))
        self.promises.append(promise)
        print(f"  {mark(promise.kept)}: {what}: {measured}", flush=True)
        self._save()

    def speed(self, options: Options, what: str, kept: bool, measured: object) -> None:
        """The same of a speed, which a quick run is too short to judge."""
        self.promise(what, None if options.quick else kept, measured)

    def figure(self, name: str, value: object) -> None:
        """Note a figure that nothing is promised of."""
        self.figures[name] = str(value)
        self._save()

    def row(self, title: str, columns: Sequence[str], *cells: object) -> None:
        """Add a row to the table of that title."""
        found = next((table for table in self.tables if table.title == title), None)
        if found is None:
            found = Table(title, list(columns))
            self.tables.append(found)
        found.rows.append([str(cell) for cell in cells])
        print(
            f"  {title}: {', '.join(f'{name} {cell}' for name, cell in zip(columns, cells, strict=True))}", flush=True
        )
        self._save()

    def skip(self, what: str, reason: str) -> None:
        """Note what was not run, and why."""
        self.not_run.append(f"{what}: {reason}")
        print(f"  not run: {what}: {reason}", flush=True)
        self._save()

    def _save(self) -> None:
        if self.file is not None:
            content = {key: value for key, value in asdict(self).items() if key != "file"}
            draft = self.file.with_suffix(".draft")
            draft.write_bytes(orjson.dumps(content))
            draft.replace(self.file)

    @classmethod
    def read(cls, file: Path) -> Findings:
        """What a section has written so far; nothing if it wrote nothing."""
        if not file.exists():
            return cls()
        content: dict[str, Any] = orjson.loads(file.read_bytes())
        content["promises"] = [Promise(**each) for each in content["promises"]]
        content["tables"] = [Table(**each) for each in content["tables"]]
        return cls(**content)


def mark(kept: bool | None) -> str:
    """The word for it."""
    return "not judged" if kept is None else "kept" if kept else "BROKEN"
