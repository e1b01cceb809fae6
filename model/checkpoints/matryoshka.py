"""The lengths to which vectors were trained to be cut: Matryoshka representation learning, arXiv 2205.13147."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from model.checkpoints.checkpoint import CheckpointError, Options
from model.checkpoints.folders import read_object
from model.manifest import MAX_MATRYOSHKA_DIMENSIONS

# In a config.json: Jina's name, sentence-transformers' name, and that of NLLB-SigLIP-MRL.
_FIELDS = ("matryoshka_dimensions", "matryoshka_dims", "mrl_resolutions")
_CONFIGS = ("config.json", "0_CLIPModel/config.json", "config_sentence_transformers.json")


class Matryoshka(NamedTuple):
    """Ascending lengths, the last one that of the whole vector; none where nothing is said of them."""

    dimensions: tuple[int, ...] = ()
    source: str = ""  # the file and its field, or the options
    warnings: tuple[str, ...] = ()


def read_matryoshka(checkpoint: Path, embed_dim: int, options: Options) -> Matryoshka:
    """What the options or the files of a checkpoint say, of vectors of `embed_dim` components.

    Raises CheckpointError for options that cannot be; what a file says that cannot be becomes a warning.
    """
    if options.matryoshka_dimensions:
        wrong = _wrong(options.matryoshka_dimensions, embed_dim)
        if wrong:
            raise CheckpointError(f"matryoshka dimensions: {wrong}")
        return Matryoshka(_ordered(options.matryoshka_dimensions, embed_dim), "the options")
    for file in (checkpoint / name for name in _CONFIGS if checkpoint.is_dir()):
        content = read_object(file) if file.is_file() else {}
        for field in _FIELDS:
            if content.get(field):
                return _from_file(content[field], embed_dim, f"{field} in {file.name}")
    return Matryoshka()


def _from_file(given: Any, embed_dim: int, source: str) -> Matryoshka:
    values = given if isinstance(given, list) else [given]
    if wrong := _wrong(values, embed_dim):
        return Matryoshka(warnings=(f"{source} is not taken: {wrong}",))
    return Matryoshka(_ordered(values, embed_dim), source)


def _wrong(values: Iterable[Any], embed_dim: int) -> str:
    listed = list(values)
    if len(listed) > MAX_MATRYOSHKA_DIMENSIONS:
        return f"{len(listed)} are more than {MAX_MATRYOSHKA_DIMENSIONS}"
    wrong = next((each for each in listed if type(each) is not int or not 1 <= each <= embed_dim), None)
    return "" if wrong is None else f"{wrong!r:.50} is not a length from 1 to {embed_dim}, that of the vectors"


def _ordered(values: Iterable[int], embed_dim: int) -> tuple[int, ...]:
    return tuple(sorted({*values, embed_dim}))
