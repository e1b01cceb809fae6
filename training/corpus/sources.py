"""The packages that the corpus is made from, with the versions and hashes it was made with."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

TABLE = Path(__file__).with_name("sources.json")


@dataclass(frozen=True, slots=True)
class Source:
    """One package of a public registry."""

    name: str
    kind: Literal["npm", "apt"]
    package: str
    version: str
    licence: str
    attribution: str
    sha256: str
    what: str
    use: Literal["train", "words", "test"]


@cache
def sources() -> dict[str, Source]:
    """All sources by their short name, as `sources.json` lists them."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {row["name"]: Source(**row) for row in rows}
