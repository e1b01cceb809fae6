"""YAML of a bounded size, also when its aliases are written out."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 2**20
MAX_VALUES = 100_000  # with every alias written out: ten lines of aliases may stand for a billion


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would take the last without a word, and merges without end."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping. Raises ConstructorError."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Write out `<<`. Raises ConstructorError."""
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, "its merges repeat each other", node.start_mark)


class YamlError(ValueError):
    """Text that is no YAML, or too much of it."""


def read_yaml(file: Path) -> Any:
    """The content of a file. Raises YamlError and OSError."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise YamlError("it is no regular file")
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise YamlError(f"it has more than {MAX_BYTES:,} bytes")
    return parse_yaml(content)


def parse_yaml(text: str | bytes) -> Any:
    """What `text` says. Raises YamlError."""
    try:
        content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # numbers, dates and keys that are none
        raise YamlError(f"it is not YAML: {error or 'nested too deeply'}") from error
    waiting, count = [content], 0
    while waiting:
        value, count = waiting.pop(), count + 1
        if count + len(waiting) > MAX_VALUES:
            raise YamlError(f"it stands for more than {MAX_VALUES:,} values: its aliases repeat each other")
        if isinstance(value, dict):
            waiting += value.keys()
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
    return content
