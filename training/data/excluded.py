"""Items of the shards that a run leaves out, such as those that look like a test picture."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from model.suggestions import did_you_mean_path
from training.config import ConfigError
from training.data.files import MAX_LIST_BYTES, read_bounded

KEYS = TypeAdapter(list[str])


def load_excluded(file: Path | None) -> frozenset[str]:
    """Read a JSON list of keys, each SHARD.tar/KEY. Raises ConfigError."""
    if file is None:
        return frozenset()
    try:
        return frozenset(KEYS.validate_json(read_bounded(file, MAX_LIST_BYTES)))
    except FileNotFoundError:
        raise ConfigError(f"data.exclude: {file} is not there{did_you_mean_path(file)}") from None
    except (OSError, ValidationError) as error:
        raise ConfigError(f'{file} is not a list of keys, ["SHARD.tar/KEY", ...]: {error}') from error
